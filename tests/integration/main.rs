//! What needs no rights: the command line's refusals, replaying recordings, and names.

mod go_names;
mod replay;
mod usage;
