"""Speed against peers, measured side by side."""
