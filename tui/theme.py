"""The explorer's looks: dark, light, and without any colour.

The four states of a cell are the Okabe-Ito colours that stay apart for every kind of colour blindness; their
lightness differs too, so that a monochrome screen keeps the order, and their symbols differ anyway.
"""

from textual.theme import Theme

DARK = Theme(
    name="detrec-dark",
    primary="#56b4e9",
    secondary="#7c8da6",
    accent="#f0c35e",
    warning="#e69f00",
    error="#ff7043",
    success="#2fb58f",
    foreground="#d6deea",
    background="#0e131b",
    surface="#121924",
    panel="#1b2532",
    dark=True,
    variables={
        "state-equal": "#4b6078",
        "state-inherited": "#e69f00",
        "state-born": "#ff5a36",
        "state-missing": "#cc79c8",
        "quiet": "#74859b",
        "block-cursor-background": "#28496a",
        "block-cursor-foreground": "#f4f8fd",
        "border": "#2c3a4d",
        "border-blurred": "#2c3a4d",
        "footer-key-foreground": "#f0c35e",
        "footer-background": "#121924",
        "input-selection-background": "#56b4e9 35%",
    },
)

LIGHT = Theme(
    name="detrec-light",
    primary="#0072b2",
    secondary="#5b6b80",
    accent="#8a5a00",
    warning="#a86f00",
    error="#c23b0e",
    success="#00795a",
    foreground="#1c2530",
    background="#f7f8fa",
    surface="#eef1f5",
    panel="#e1e6ed",
    dark=False,
    variables={
        "state-equal": "#9fb0c3",
        "state-inherited": "#b27500",
        "state-born": "#c8320a",
        "state-missing": "#a03c96",
        "quiet": "#5f6f82",
        "block-cursor-background": "#bcd8ee",
        "block-cursor-foreground": "#101820",
        "border": "#c3ccd8",
        "border-blurred": "#c3ccd8",
        "footer-key-foreground": "#8a5a00",
        "footer-background": "#e1e6ed",
        "input-selection-background": "#0072b2 30%",
    },
)

THEMES = (DARK, LIGHT)
