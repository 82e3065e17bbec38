//! The decoder, by normative statement.
