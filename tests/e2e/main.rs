//! The commands as a user runs them, from the shell's point of view: arguments in, files and exit
//! codes out. As root, because most of them watch the kernel.

mod check;
mod help;
mod record;
mod replay;
