//! What an MQTT broker decides: sessions, subscriptions, publish, deliver, retained, will, hooks.
