"""What is looked at when one looks into a trace: every screen, report and export draws from here.

`survey.Survey` is the one way in. It reads what a view needs and nothing else, keeps little, and answers in
frozen dataclasses and numpy arrays. It knows no terminal and no page.
"""
