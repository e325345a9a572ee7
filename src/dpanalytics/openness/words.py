"""Purposes, roles, categories and ways to combine, in words for students.

Pure. Each table is closed over what it speaks of: a test fails when a word is missing.
"""

from collections.abc import Mapping

from dpanalytics.schema.access import Role
from dpanalytics.schema.category import Category
from dpanalytics.schema.programme import SupportPurpose
from dpanalytics.schema.purpose import Purpose

PURPOSES: Mapping[Purpose, str] = {
    Purpose.IMPROVE_TEACHING: "Finding out how modules and teaching can be better.",
    Purpose.IMPROVE_ASSESSMENT_PRACTICE: (
        "Finding out how assessments can be set and timed better; never how anybody is marked."
    ),
    Purpose.IMPROVE_SUPPORT: "Finding out what support helps, and offering it.",
    Purpose.QUALITY_REVIEW: "Reviewing the quality of courses, as committees do every year.",
    Purpose.ANNUAL_REPORT: "Reporting each year on how learner analytics were used.",
}
"""What statistics may be made for."""

SUPPORT_PURPOSES: Mapping[SupportPurpose, str] = {
    SupportPurpose.OFFER_SUPPORT: "Offering a student support.",
    SupportPurpose.ASK_AFTER_ENGAGEMENT: "Asking a student how their studies are going.",
    SupportPurpose.ADVISE_ON_STUDY: "Offering a student advice on how to study.",
}
"""What staff may see the name of a student who agreed for."""

REFUSED_PURPOSES: Mapping[str, tuple[str, str]] = {
    "progression": ("Deciding whether a student may go on to the next stage.", "2.3"),
    "assessment": ("Assessing a student.", "2.3 and 2.5"),
    "award": ("Deciding on a degree or any other award.", "2.3"),
    "marking": ("Marking, or any influence on a mark.", "2.5"),
}
"""What is never done, and the section of the policy that says so."""

ROLES: Mapping[Role, str] = {
    Role.COMMITTEE: (
        "Asks for statistics within a budget, and gets figures with noise. Sees no record and no "
        "name."
    ),
    Role.STEWARD: (
        "Loads the sources, builds what statistics are made from, and keeps the declarations. Sees "
        "exact totals; student numbers are replaced by pseudonyms as they are loaded. Answers "
        "requests of students: whose one is comes with a note in the journal, which the student "
        "sees."
    ),
    Role.AUDITOR: (
        "Reads the journal of all that was asked, charged and disclosed, and checks it. Sees no "
        "record and no name."
    ),
    Role.DATA_PROTECTION_OFFICER: (
        "Approves cases for sensitive data, reviews every approval, and reads all budgets. Answers "
        "requests of students, as data stewards do."
    ),
    Role.STAFF: (
        "Acts under an approved programme: sees the programme's indicators with the name of a "
        "student who agreed, for the programme's purpose, never the records beneath. Each time is "
        "written down first, and the student sees it."
    ),
    Role.STUDENT: (
        "Sees their own indicators, what each source holds about them and who looked at them; "
        "decides on their consent."
    ),
    Role.REPRESENTATIVE: (
        "Reads all budgets and the annual report, for the students whom they speak for."
    ),
}
"""What each role may do."""

CATEGORIES: Mapping[Category, str] = {
    Category.IDENTIFIER: "who the record is of; replaced by a pseudonym when it is loaded",
    Category.REGISTRATION: "registration",
    Category.DEMOGRAPHICS: "the person",
    Category.PRIOR_LEARNING: "earlier learning",
    Category.CURRICULUM: "modules, not persons",
    Category.ENGAGEMENT: "activity",
    Category.ASSESSMENT: "assessments and results",
    Category.SUPPORT: "support that was offered",
    Category.CONSENT: "what was agreed to",
    Category.FEES: "payment of fees, and debt",
    Category.COUNSELLING: "contact with counselling and wellbeing services",
}

COMBINED: Mapping[str, str] = {
    "sum": "added up",
    "max": "the highest counts",
    "any": "whether there is any",
    "last": "the last counts",
}
"""How several rows of one student become one value."""

REACHES: Mapping[str, str] = {
    "combined_views": (
        "Who did not agree to combining records is in no statistics that draw on several sources."
    ),
    "identified_results": (
        "Statistics under noise that draw on several sources hold all students; only results that "
        "name a student need the agreement to combining records."
    ),
}

RENEWALS: Mapping[str, str] = {
    "yearly": "Students are asked again each academic year; an agreement that is not renewed ends.",
    "until_withdrawn": "An agreement holds until it is withdrawn.",
}
