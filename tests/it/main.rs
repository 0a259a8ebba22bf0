

mod copy_wire;
mod layering;
mod pgoutput;
mod sandbox;
mod stream;
