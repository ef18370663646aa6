"""What browsers are told with every page: whence it may load, and that nothing else is its business."""

_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SCRIPTS = "; script-src 'self'; connect-src 'self'"
_COMMON = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

INERT_HEADERS = {"content-security-policy": _POLICY, **_COMMON}
"""Of what runs no script."""
ACTIVE_HEADERS = {"content-security-policy": _POLICY + _SCRIPTS, **_COMMON}
"""Of what runs this server's scripts, and asks this server alone."""
