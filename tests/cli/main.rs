//! `init`, `doctor` and `exec` from outside: the real binary, in folders of its own, with an environment of its own.

mod broken;
mod exec;
mod init;
mod keys;
mod servers;
mod setups;
mod world;
