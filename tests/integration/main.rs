//! What needs no rights: the command line's refusals, and replaying recordings.

mod replay;
mod usage;
