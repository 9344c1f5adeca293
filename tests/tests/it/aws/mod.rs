//! The AWS adapters against an emulator.

mod cloud;
mod events;
mod faults;
mod jobs;
mod platform;
mod predict;
mod redelivery;
mod resume;
mod storage;
mod watch;
