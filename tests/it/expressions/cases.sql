-- literals and columns
1
-1
- 5
2147483648
-2147483648
9223372036854775808
1.50
1e3
.5
'a''b'
null
true
not b
b
i2
f4
f8
n
c
y
j
jb
ai
net
"i4"
I4
-- case, coalesce and the like
case when b then 'yes' when not b then 'no' else 'unknown' end
case when i4 > 0 then i4 else n end
case i4 when 42 then 'answer' when 0 then 'zero' end
case s when '' then 'empty' when 'Hello, Wörld' then 'hello' else s end
case when b then 1 when b is null then 2.5 else i8 end
case when i4 > 0 then d else ts end
case i2 when 7.0 then 'seven' else 'other' end
case when true then 1 when b then 2 end
case when false then 1 else i4 end
coalesce(s, v)
coalesce(i4, 0)
coalesce(i2, i8, 1.5)
coalesce(null, s)
coalesce(b, false)
coalesce(d, '2000-01-01')
coalesce(v, c)
coalesce(f4, i4)
nullif(i4, 0)
nullif(s, '')
nullif(i4, 42.0)
nullif('a', 'b')
greatest(i2, i4, 5)
least(i2, i8, n)
greatest(s, v, 'm')
least(d, '2024-01-01')
greatest(f8, 1.0)
greatest(ts, tz)
greatest(null, null)
-- boolean logic
b and i4 > 0
b or i4 > 0
not (b and s = '')
b and null
b or null
b is true
b is not true
b is false
b is not false
b is unknown
b is not unknown
s is null
s is not null
i4 is distinct from 42
i4 is not distinct from i2
s is distinct from null
b = true
b <> (i4 > 0)
b > false
-- comparison
i4 = 42
i4 = '42'
i4 < i8
i2 >= i4
i4 = 42.0
f4 = 0.1
f8 > f4
f8 = 'NaN'
n = 12.34
n <> m
n > 1e10
s = 'Hello, Wörld'
s < v
s >= 'a'
v = s
c = 'ab'
c = 'ab    '
c = v
c < 'b'
c = 'ab '::text
y = '\x00ff10'
y < '\x01'
u = '6BA7B810-9DAD-11D1-80B4-00C04FD430C8'
u > '10000000-0000-0000-0000-000000000000'
d = '2024-02-29'
d < ts
d >= tz
ts = tz
ts > '2000-01-01'
h < '12:00'
h = '24:00:00'
jb = '{"a": "q\"r", "n": 1.5, "bb": {"c": [1, 2, {"d": "e"}]}}'
jb = '[1,"two",null,true]'
ai = '{1,2,NULL,3}'
net = '10.0.0.1'
s = i4
b = 1
i4 between 0 and 100
i4 not between 0 and 100
d between '2024-01-01' and '2024-12-31'
s between 'A' and 'Z'
i4 in (1, 42, 7)
i4 in ('42', 7)
i4 not in (1, null)
s in ('', 'x')
i4 in (42.0, 0)
n in (12.34, 'NaN')
i4 = any ('{42,0}')
i4 = any (ai)
2 = any (ai)
5 = all (ai)
'a' = any (at)
i4 <> all (array[1, 2])
i2 = any (array[7, 0])
'x' <> any (at)
-- arithmetic
i4 + 1
i4 + i2
i2 + i2
i4 + i8
i8 + 1
i2 - 1
i4 * 2
i4 / 5
i4 % 5
i4 / 0
i4 % i2
i8 / i4
i2 / i2
i4 % -1
-i4
-i8
-i2
+i4
i4 + n
n * n
n / 3
n / 7.000
n % 5
m / n
n - m
m * 1.1
1 / n
n + 'NaN'
n * 0
i4 / 3.0
100.0 / 7
i4 + 1.5
i4 + '1'
f8 * 2
f8 + f4
f4 + 1
f4 * f4
f8 / 3
f8 / 0
f4 / f4
f8 * 1e10
f8 * 1e200
f8 - 0.1
-f8
-n
i4 + s
2 + 3 * 4 - 1
(2 + 3) * 4
- 2 * 3
7 / 2 * 2.0
i4 * 1000000000
i8 * i8
1e-5 * n
0.1 + 0.2
0.1::float8 + 0.2::float8
-- text
s || v
s || '-' || i4
i4 || s
s || b
s || n
s || f8
s || ts
c || 'x'
'x' || c
v || c
s || null
y || y
y || '\x01'
i4 || i8
s || jb
u || 'x'
'a' || 'b'
s like 'Hello%'
s like '%W_rld'
s like '100\%%'
s like '100!%%' escape '!'
s not like '%o%'
s ilike 'HELLO%'
s ilike '%WÖRLD'
c like 'ab%'
c like 'ab'
v like '%,%,%'
s like ''
s like null
s like '%\\x'
s like '%' escape ''
lower(s)
upper(s)
upper(v)
initcap('hello wORLD foo_bar 2nd')
initcap(s)
trim(v)
trim(both ' ' from v)
trim(leading ' ' from v)
trim(trailing 'x' from 'abxx')
trim('x' from 'xxax')
ltrim(v)
rtrim(v, 'c,')
btrim(s, 'Hd')
btrim(c)
substr(s, 2)
substr(s, 2, 3)
substr(s, -1, 4)
substr(s, 0)
substring(s from 3)
substring(s from 3 for 2)
substring(s for 4)
substring(s, 8, 5)
substring(s from 2 for -1)
replace(s, 'l', 'LL')
replace(s, '', 'x')
split_part(v, ',', 1)
split_part(v, ',', 2)
split_part(v, ',', -1)
split_part(v, ',', 9)
split_part(v, '', 1)
split_part(v, ',', 0)
concat(s, i4, b, null, d)
concat(f8, n, c)
concat_ws('-', s, null, i4, b)
concat_ws(s, 'a', 'b')
concat_ws(null, 'a')
left(s, 3)
left(s, -3)
right(s, 3)
right(s, -3)
left(s, 0)
length(s)
length(c)
length(y)
length(v)
char_length(s)
octet_length(s)
octet_length(y)
octet_length(c)
lpad(s, 15)
lpad(s, 3)
lpad(s, 15, 'xy')
rpad(v, 8, 'ab')
rpad(v, 8, '')
lpad(i4::text, 6, '0')
lpad(s, -1)
reverse(s)
position('l' in s)
position('' in s)
strpos(s, 'ö')
starts_with(s, 'He')
s ^@ 'He'
repeat(v, 2)
repeat(v, -1)
translate(s, 'lo', 'x')
ascii(s)
md5(s)
md5(y)
sha256(y)
sha256('abc')
encode(y, 'hex')
encode(y, 'base64')
encode(sha256(y) || sha256(y), 'base64')
decode('aGVsbG8=', 'base64')
decode('aGVsbG8', 'base64')
decode('00Ff', 'hex')
decode('0g', 'hex')
decode(s, 'hex')
-- numbers
abs(i4)
abs(i2)
abs(n)
abs(f8)
abs(f4)
sign(n)
sign(f8)
round(n)
round(n, 2)
round(n, -1)
round(m, 5)
round(f8)
round(2.5)
round(-2.5)
round(2.5::float8)
round(i4)
round(1234.5678, -2)
trunc(n)
trunc(n, 1)
trunc(f8)
floor(n)
floor(f8)
ceil(n)
ceil(f8)
ceil(-0.5)
ceiling(m)
floor(-0.5)
floor(i4)
mod(i4, 5)
mod(n, 5)
-- casts
i4::text
i4::bigint
i8::int
i8::smallint
i4::smallint
i2::numeric
i4::float8
i8::float4
i8::float8
i4::numeric(5,2)
i4::boolean
b::int
b::text
b::varchar(2)
n::int
n::bigint
n::float8
n::float4
n::numeric(10,1)
n::numeric(4,2)
n::text
m::numeric(12,0)
f8::int
f8::numeric
f4::numeric
f4::float8
f8::real
f4::int
f8::text
f4::text
f8::bigint
s::int
s::numeric
s::boolean
s::float8
s::varchar(3)
s::char(3)
s::char(20)
v::text
v::date
v::timestamp
v::timestamptz
c::text
c::varchar
c::boolean
c::char(3)
y::text
u::text
d::text
d::timestamp
d::timestamptz
h::text
h::interval
ts::date
ts::time
ts::timestamptz
tz::date
tz::timestamp
tz::time
tz::text
ts::text
ts::timestamp(0)
ts::timestamp(3)
tz::timestamptz(0)
h::time(0)
j::text
j::jsonb
jb::json
jb::text
jb::int
jb::numeric
jb::boolean
jb::float8
ai::text
ai::text[]
at::text
net::text
' 12 '::int
'+7'::int
'1.5'::int
'99999'::smallint
'1e3'::numeric
' -1.50e-2 '::numeric
'inf'::numeric
'nan'::float8
'-Infinity'::float8
'1e400'::float8
'1e-400'::float8
'0x10'::int
'1_000'::int
'yes'::boolean
'of'::boolean
'o'::boolean
'T'::boolean
' on '::boolean
'{6BA7B8109DAD11D180B400C04FD430C8}'::uuid
'6ba7-b810-9dad-11d1-80b4-00c0-4fd4-30c8'::uuid
'6ba7b8109dad11d180b400c04fd430c'::uuid
'\x1 2'::bytea
'\xDEad'::bytea
'a\\b\001'::bytea
'abc'::bytea
'ab'::char
'abc'::varchar(2)
'12.345'::numeric(4,1)
'2024-01-02'::date
'2024-1-2'::date
'20240102'::date
'1/2/2024'::date
'Jan 2, 2024'::date
'2 January 2024'::date
'2-Jan-2024'::date
'2024-Jan-02'::date
'2024-02-30'::date
'2024-13-01'::date
'infinity'::date
'epoch'::date
'4714-11-24 BC'::date
'4714-11-23 BC'::date
'5874897-12-31'::date
'5874898-01-01'::date
'2024-01-02 03:04:05'::date
'2024-01-02T03:04:05.123456789'::timestamp
'2024-01-02 03:04'::timestamp
'2024-01-02 24:00'::timestamp
'2024-01-02 24:01'::timestamp
'2024-01-02 3:04 PM'::timestamp
'2024-01-02 12:04 am'::timestamp
'2024-01-02 13:04 pm'::timestamp
'2024-01-02 03:04:60'::timestamp
'2024-01-02 03:04:05+02'::timestamp
'2024-01-02 03:04:05+02'::timestamptz
'2024-01-02 03:04:05-0530'::timestamptz
'2024-01-02 03:04:05+05:45'::timestamptz
'2024-01-02 03:04:05 America/New_York'::timestamptz
'2024-07-02 03:04:05 europe/zurich'::timestamptz
'2024-01-02 03:04:05 EST'::timestamptz
'2024-01-02 03:04:05Z'::timestamptz
'2024-01-02 03:04:05 nowhere'::timestamptz
'294276-12-31 23:59:59.999999'::timestamp
'294277-01-01'::timestamp
'99-01-02'::date
'01-02-03'::date
'04:05:06.789'::time
'4:05 pm'::time
'04:05:06.7890126'::time
'25:00'::time
'2024-01-02 04:05:06'::time
'1 day 2 hours'::interval
'1 year 2 mons -3 days +04:05:06.7'::interval
'-1.5 months'::interval
'1.25 days'::interval
'3 weeks ago'::interval
'90 seconds'::interval
'5'::interval
'1:02'::interval
'25:61'::interval
'1 fortnight'::interval
cast('7' as int)
cast(s as varchar(5))
cast(i4 as numeric(3,0))
int '7'
date '2024-01-02'
timestamp '2024-01-02 03:04:05'
numeric '1.50'
'{1,2}'::int[]
'{a,"b c",null}'::text[]
'{1,x}'::int[]
'{{1,2},{3,4}}'::int[]
-- dates and times
extract(year from ts)
extract(year from d)
extract(month from ts)
extract(day from d)
extract(hour from ts)
extract(minute from tz)
extract(second from ts)
extract(milliseconds from ts)
extract(microseconds from ts)
extract(epoch from ts)
extract(epoch from tz)
extract(epoch from d)
extract(dow from ts)
extract(isodow from d)
extract(doy from ts)
extract(week from ts)
extract(week from d)
extract(isoyear from ts)
extract(isoyear from d)
extract(quarter from ts)
extract(decade from ts)
extract(century from d)
extract(millennium from ts)
extract(julian from d)
extract(julian from ts)
extract(hour from d)
extract(hour from h)
extract(second from h)
extract(epoch from h)
extract(day from h)
extract(timezone from tz)
extract(timezone from ts)
extract(nonsense from ts)
date_part('year', ts)
date_part('epoch', tz)
date_part('second', ts)
date_part('hour', d)
date_part('day', d)
date_part('minute', h)
extract(day from interval '40 days 2 hours')
extract(epoch from interval '1 year 2 months 3 days 4 hours')
extract(month from interval '14 months')
date_trunc('day', ts)
date_trunc('week', ts)
date_trunc('month', tz)
date_trunc('quarter', ts)
date_trunc('year', d)
date_trunc('decade', ts)
date_trunc('century', ts)
date_trunc('millennium', ts)
date_trunc('hour', tz)
date_trunc('second', ts)
date_trunc('milliseconds', ts)
date_trunc('day', tz, 'America/New_York')
date_trunc('hour', tz, 'Asia/Kathmandu')
date_trunc('dow', ts)
ts at time zone 'UTC'
tz at time zone 'UTC'
ts at time zone 'America/New_York'
tz at time zone 'America/New_York'
tz at time zone 'europe/zurich'
ts at time zone 'Europe/Dublin'
'2024-03-31 02:30:00'::timestamp at time zone 'Europe/Zurich'
'2024-10-27 02:30:00'::timestamp at time zone 'Europe/Zurich'
'2014-10-26 01:30:00'::timestamp at time zone 'Europe/Moscow'
tz at time zone 'EST'
d at time zone 'America/New_York'
timezone('Asia/Tokyo', tz)
to_timestamp(0)
to_timestamp(1700000000.123456)
to_timestamp(f8)
to_timestamp(i4)
ts + interval '1 day'
ts + interval '1 month'
ts - interval '1 month'
ts - interval '1 year 3 hours'
tz + interval '36 hours'
d + interval '1 day'
d - interval '1 month'
d + 1
d - 1
1 + d
d - '2024-01-01'
d - d
ts - '2024-01-01'
ts - ts
tz - ts
d + h
h + interval '1 hour'
h - interval '90 minutes'
h - '01:00'
interval '1 day' + interval '2 hours'
interval '1 day' - interval '2 hours'
- interval '1 day 2 hours'
interval '1 day' > interval '23 hours'
interval '1 month' = interval '30 days'
interval '1' day
ts + interval '1 mon -1 day'
date(ts)
-- json
jb -> 'a'
jb -> 'bb'
jb -> 'bb' -> 'c' -> 2 ->> 'd'
jb ->> 'a'
jb ->> 'n'
jb -> 0
jb -> -1
jb ->> 1
jb ->> 2
jb -> 9
jb #> '{bb,c,1}'
jb #>> '{bb,c,2,d}'
jb #> '{}'
jb #>> '{}'
jb #>> '{0}'
j -> 'a'
j ->> 'a'
j -> 'b'
j ->> 'b'
j -> 'a' -> 'z'
j #> '{a,z}'
j #>> '{}'
j -> 0
jb || '{"a": 1, "new": [1]}'
jb || '[7]'
jb || '5'
jsonb_array_length(jb)
json_array_length(j)
jsonb_typeof(jb)
json_typeof(j)
to_jsonb(s)
to_jsonb(i4)
to_jsonb(n)
to_jsonb(f8)
to_jsonb(f4)
to_jsonb(b)
to_jsonb(d)
to_jsonb(ts)
to_jsonb(tz)
to_jsonb(h)
to_jsonb(u)
to_jsonb(y)
to_jsonb(j)
to_jsonb(jb)
to_jsonb(ai)
to_jsonb(at)
to_jsonb(c)
to_jsonb(net)
array_to_json(ai)
array_to_json(at)
jsonb_build_object('id', i4, 'name', s, 'at', tz, 'ok', b, 'list', ai)
jsonb_build_object('b', 1, 'aa', 2, 'a', 3, 'b', n)
jsonb_build_object(s, 1)
jsonb_build_object(i4, 1)
jsonb_build_object(b, d)
jsonb_build_object()
jsonb_build_object('a')
jsonb_build_array(1, 'two', s, null, b, j, jb, n)
jsonb_build_array()
'{"b": 1, "a": [1, 2.50, "x"], "b": null}'::jsonb
'  {"a":1 , "b" : [ ] }  '::json
'{"a":1,}'::jsonb
'"\u00e9\ud83d\ude00\u0001"'::jsonb
'"\u0000"'::jsonb
'"\ud83d"'::jsonb
'1e5'::jsonb
'-0.0'::jsonb
'1.10e-2'::jsonb
'[1, [2, {"k": "v"}]]'::jsonb
'tru'::jsonb
'nul'::json
'01'::jsonb
-- arrays
array_length(ai, 1)
array_length(at, 2)
array_length(ai, 0)
cardinality(ai)
cardinality(at)
array[1, i4]
array['a', s]
array[i4, 1.5]
ai = '{5}'
-- mistakes
nonexistent
nope(s)
lower(i4)
length(i4)
s + 1
jb -> true
case when i4 then 1 end
coalesce(i4, s)
coalesce(i4, 'x')
substr(i4, 1)
i4 like '4%'
u || u
ts + 1
d + d
b + b
