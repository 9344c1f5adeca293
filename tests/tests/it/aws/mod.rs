//! The AWS adapters against an emulator.

mod cloud;
mod events;
mod faults;
mod jobs;
mod platform;
mod storage;
mod watch;
