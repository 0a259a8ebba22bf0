# Switchyard with PostgreSQL's client programs: pg_dump and pg_restore carry views, functions and
# comments over, where they are new enough for the source.
FROM rust:1 AS build
WORKDIR /build
COPY . .
RUN cargo build --locked --release --bin switchyard

FROM debian:stable-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates postgresql-client \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --home-dir / --shell /usr/sbin/nologin switchyard
COPY --from=build /build/target/release/switchyard /usr/local/bin/switchyard
USER switchyard
EXPOSE 7654
ENTRYPOINT ["switchyard"]
CMD ["run", "-c", "/etc/switchyard.toml"]
