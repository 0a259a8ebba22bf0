mod copy_wire;
mod pgoutput;
mod sandbox;
mod source_catalog;
mod stream;
mod check;
mod source_ddl;
