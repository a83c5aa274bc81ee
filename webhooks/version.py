"""The version of this package, and the name under which it is installed.

setup.cfg and `webhooks.__version__` take the version from here. The distribution cannot be called `webhooks` as the
package is: on the package index that is another project, which `pip install webhooks` would put over this one.
"""

VERSION = "0.1.0"

#: As setup.cfg has it; a test holds both equal.
DISTRIBUTION = "webhooks-consumer"


def install(extra: str) -> str:
    """The command that installs an extra of this distribution, for messages that miss it."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
