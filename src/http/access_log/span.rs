//! A request as a span of a distributed trace.

use std::net::IpAddr;
use std::time::SystemTime;

/// Takes the spans of requests, for example to export them. Only requests that belong to a sampled trace have one: with a
/// header `traceparent` (W3C Trace Context) whose last flag is set.
pub trait RequestSpans: Send + Sync {
    /// Takes a span that has ended. Called by the tasks that answer requests, so it must not wait.
    fn take(&self, span: RequestSpan<'_>);
}

/// A request that was answered, or whose client has gone.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequestSpan<'a> {
    /// The trace that the client says the request belongs to, and the span in which it was sent.
    pub parent: TraceParent,
    /// When the request was read.
    pub began: SystemTime,
    /// When its answer began; `None` if the client left before.
    pub answered: Option<SystemTime>,
    /// When its answer was written, or the client left.
    pub ended: SystemTime,
    /// The method, such as `GET`.
    pub method: &'a str,
    /// The target, without the values of unknown parameters.
    pub path: &'a str,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// The status; `None` if the client left before the answer.
    pub status: Option<u16>,
    /// The mode of the answer, such as `delta`.
    pub mode: Option<&'a str>,
    /// The cursor of the answer.
    pub cursor: Option<&'a str>,
    /// How many revisions the client's cursor was behind.
    pub lag_revisions: Option<u64>,
    /// The bytes of the body that were sent.
    pub bytes: u64,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The name of the client's token.
    pub token: Option<&'a str>,
}

/// The position of a request in a trace, as the header `traceparent` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The id of the trace; not 0.
    pub trace_id: u128,
    /// The id of the span in which the request was sent; not 0.
    pub span_id: u64,
}

impl TraceParent {
    /// The parent that the header names, if it is valid and its trace is sampled.
    pub(super) fn sampled(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let (version, trace_id, span_id, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        // A later version may have more parts.
        let is_whole = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
        if !is_whole || !is_hex(trace_id, 32) || !is_hex(span_id, 16) || !is_hex(flags, 2) {
            return None;
        }
        let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        let parent = Self {
            trace_id: u128::from_str_radix(trace_id, 16).ok()?,
            span_id: u64::from_str_radix(span_id, 16).ok()?,
        };
        (is_sampled && parent.trace_id != 0 && parent.span_id != 0).then_some(parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_and_sampled_parent_counts() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let sampled = TraceParent::sampled(&format!("00-{trace}-{span}-01"));
        assert_eq!(
            sampled,
            Some(TraceParent {
                trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
                span_id: 0xf0_67aa_0ba9_02b7
            })
        );
        assert_eq!(TraceParent::sampled(&format!("cc-{trace}-{span}-03-more")), sampled);
        for other in [
            format!("00-{trace}-{span}-00"),
            format!("00-{trace}-{span}-01-more"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{trace}-{span}"),
            format!("00-+{}-{span}-01", &trace[1..]),
            String::new(),
        ] {
            assert_eq!(TraceParent::sampled(&other), None, "{other}");
        }
    }
}
