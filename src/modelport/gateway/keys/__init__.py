"""Keys of callers: signed tokens (JWT, ES256), the register of what was issued, the tenants' limits.

`issue` changes things, `register` keeps them, `signing` has the private key, `keyring` is what the gateway reads.
"""
