"""Time zones as TWS names them: mostly IANA's names, and beside them abbreviations and those of Windows.

An abbreviation is a place to TWS, not an offset: its "EST" is what clocks in New York show, in July as well.
"""

from __future__ import annotations

from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

# Sources: time zones in captured contract details; Unicode CLDR's table of Windows zones.
_PLACES = {
    **dict.fromkeys(("EST", "EDT", "EST5EDT", "Eastern Standard Time"), "America/New_York"),
    **dict.fromkeys(("CST", "CDT", "CST6CDT", "Central Standard Time"), "America/Chicago"),
    **dict.fromkeys(("MST", "MDT", "MST7MDT", "Mountain Standard Time"), "America/Denver"),
    **dict.fromkeys(("PST", "PDT", "PST8PDT", "Pacific Standard Time"), "America/Los_Angeles"),
    **dict.fromkeys(("GB", "GMT Standard Time"), "Europe/London"),
    **dict.fromkeys(("CEST", "W. Europe Standard Time"), "Europe/Berlin"),
    "Romance Standard Time": "Europe/Paris",
    "Central Europe Standard Time": "Europe/Budapest",
    "Central European Standard Time": "Europe/Warsaw",
    "FLE Standard Time": "Europe/Helsinki",
    "Russian Standard Time": "Europe/Moscow",
    "Israel Standard Time": "Asia/Jerusalem",
    "India Standard Time": "Asia/Kolkata",
    "HKT": "Asia/Hong_Kong",
    "China Standard Time": "Asia/Shanghai",
    "Singapore Standard Time": "Asia/Singapore",
    **dict.fromkeys(("JST", "Tokyo Standard Time"), "Asia/Tokyo"),
    **dict.fromkeys(("KST", "Korea Standard Time"), "Asia/Seoul"),
    **dict.fromkeys(("AEST", "AEDT", "AUS Eastern Standard Time"), "Australia/Sydney"),
    "E. South America Standard Time": "America/Sao_Paulo",
    "Central Standard Time (Mexico)": "America/Mexico_City",
    "South Africa Standard Time": "Africa/Johannesburg",
}


@lru_cache(maxsize=256)
def zone_of(name: str) -> ZoneInfo | None:
    """The zone of this name; None where it is not known. TWS may explain one: "EST (Eastern Standard Time)"."""
    short = name.partition(" (")[0].strip()
    key = _PLACES.get(name) or _PLACES.get(short) or short
    try:
        return ZoneInfo(key) if key else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
