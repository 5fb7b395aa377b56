"""The explorer: it holds the survey, and where one stands in it; widgets show what they are given.

What reads a trace runs in threads, which post messages. A fact that is shown comes from the survey.
"""

import os
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen

from detrec.replayer.survey.survey import Survey
from detrec.tui import banner, charting, layout, moves, words
from detrec.tui.ask import Ask
from detrec.tui.banner import Banner
from detrec.tui.heatmap import HeatMap
from detrec.tui.help import Help
from detrec.tui.keymap import KEYMAP, first_keys
from detrec.tui.keys import Keys
from detrec.tui.listing import Listing
from detrec.tui.messages import Arrived, Compared, Grown, Opened, Said
from detrec.tui.ops_pane import OpsPane
from detrec.tui.palette import Palette, palette_of
from detrec.tui.rows_pane import RowsPane
from detrec.tui.stand import Depth, Level, Place
from detrec.tui.status import Status
from detrec.tui.tabs import Tabs
from detrec.tui.theme import THEMES
from detrec.tui.walking import Walker
