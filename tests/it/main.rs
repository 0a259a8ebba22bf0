mod copy_wire;
mod pgoutput;
mod sandbox;
mod stream;
