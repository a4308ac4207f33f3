"""The report of runs: what it says (`*_section`), how it is drawn, and the page."""
