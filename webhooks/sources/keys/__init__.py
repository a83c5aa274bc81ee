"""Secrets: read from settings, a file or a function, decoded once, and used to make or check what a header holds.

`keyring` holds a source's keys and reads their file again when it changed, `keyfile` writes that file, `keys` are the
kinds of keys, with `public` and `jwt_keys` for those of the sender alone, which `fetched` gets where they are published; `published` refuses a secret that stands in a vendor's documentation.
"""
