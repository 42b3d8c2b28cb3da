"""Networks: encoder, decoders, online classifier."""
