mod sandbox;
mod source_catalog;
