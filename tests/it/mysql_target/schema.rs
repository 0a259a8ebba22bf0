//! Tables that are made on the target from the source's.
