//! MQTT 3.1, 3.1.1 and 5: packets, codec, topics and the protocol's state machine of a session.
