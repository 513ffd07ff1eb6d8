//! The HTTP edge over a scripted caller: handlers without a socket, and the server on a real one.

mod access;
mod clients;
mod faults;
mod generate;
mod hostile;
mod inference;
mod lora;
mod openapi;
mod scripted;
mod slow;
mod tls;
