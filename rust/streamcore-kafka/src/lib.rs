//! Kafka's wire to the batches of the engine.
//!
//! A consumer that makes an object of every record spends more on them than the engine does on their windows. Here the answer to
//! a fetch stays the bytes it came as: [`records`] checks its batches, finds where each value lies, and gives the engine's
//! [`RawBatch`](streamcore::raw::RawBatch) over those bytes, without a socket or a clock.
//!
//! [`cluster`] and [`connection`] are the way to the brokers: blocking sockets with deadlines, TLS, a login, and the newest version of a
//! request that both sides speak. [`fetch`] is all of that put together: threads that fetch, and a queue of batches to take from.
//!
//! ```
//! use std::sync::Arc;
//! use streamcore::buffer::Buffer;
//! use streamcore::raw::PADDING;
//! use streamcore_kafka::records::{Asked, End, Settings, Walker};
//!
//! // A fetch of `clicks` was answered with no records: the caller knows where in the answer each partition has its own.
//! let mut frame = Buffer::default();
//! frame.push_bytes(&[b' '; PADDING]);
//! let topic = Arc::from("clicks");
//! let asked = Asked { topic: &topic, partition: 3, offset: 42, aborted: Some(&[]) };
//! let walked = Walker::new(Settings::default()).walk(&mut frame, 0..0, &asked);
//! assert_eq!((walked.next_offset, &walked.end), (42, &End::Whole));
//! // Once all partitions are walked, the frame is shared by their batches.
//! assert!(walked.into_raw(&frame.into())?.is_none());
//! # Ok::<(), streamcore::error::Error>(())
//! ```

pub mod aborted;
mod batch_head;
pub mod cluster;
mod compression;
pub mod config;
pub mod connection;
pub mod error;
pub mod failure;
pub mod fetch;
mod record;
pub mod records;
mod sasl;
#[cfg(test)]
mod scripted;
pub mod secret;
pub mod shape;
pub mod tls;
mod varint;
pub mod wire;
