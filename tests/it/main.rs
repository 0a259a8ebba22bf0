mod layering;
mod sandbox;
