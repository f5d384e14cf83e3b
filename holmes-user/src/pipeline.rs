//! Wires the stages together; nothing else does.
