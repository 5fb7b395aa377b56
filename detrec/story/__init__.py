"""What a survey found, told in a file: HTML, Markdown, SVG or JSON, all from the same facts."""
