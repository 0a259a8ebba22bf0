mod copy_wire;
mod pgoutput;
mod sandbox;
mod source_catalog;
mod stream;
