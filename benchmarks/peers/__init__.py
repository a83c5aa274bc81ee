"""What people write or take instead: one file each, as short as its documentation would have it. See ../README.md."""
