"""The kinds of objects of the local Close, a module each; `resource` is what they have in common."""
