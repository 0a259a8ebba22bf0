mod sandbox;
mod target_schema;
