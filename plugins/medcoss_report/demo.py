"""Invented chest X-ray reports from a small grammar: findings, impression, measurements, hedging."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from medcoss_cli.kit.phantoms import Case, cases, row, write_manifest

CLASSES = ("normal", "effusion", "opacity", "failure")
ONCE = {"side", "lobe", "zone", "size", "grade"}  # drawn once a report, so that findings and impression agree

# A rule is a list of alternatives; {word} is replaced by a draw from the rule of that name.
GRAMMAR: dict[str, list[str]] = {
    "side": ["left", "right"],
    "zone": ["upper zone", "mid zone", "lower zone", "apex", "perihilar region", "costophrenic recess"],
    "lobe": ["upper lobe", "lower lobe"],
    "grade": ["mild", "moderate", "marked", "minimal", "slight", "small", "trace"],
    "hedge": ["likely", "probably", "possibly", "most consistent with", "suggestive of", "which may represent"],
    "age": ["old", "healed", "chronic", "remote"],
    "size": [f"{n} mm" for n in range(4, 31)] + [f"{n}.{m} cm" for n in (1, 2, 3) for m in (1, 2, 4, 5, 8)],
    "rib": ["third", "fourth", "fifth", "sixth", "seventh", "eighth"],
    "level": ["T4", "T6", "T8", "T10", "T11", "T12"],
    "when": ["prior examination", "previous radiograph", "study of {days} days ago", "earlier film"],
    "days": ["2", "3", "5", "7", "10", "14", "21", "30"],
    "view": ["PA and lateral views of the chest", "Single AP view of the chest", "Portable upright chest radiograph"],
    "history": [
        "{years}-year-old {person} with {symptom}.",
        "{symptom_cap} for {days} days.",
        "Follow-up of {followed}.",
        "Preoperative evaluation.",
        "{years}-year-old {person}, {symptom} and {symptom}.",
    ],
    "years": [str(n) for n in range(21, 90)],
    "person": ["man", "woman", "patient"],
    "symptom": ["cough", "fever", "dyspnea", "chest pain", "shortness of breath", "weight loss", "wheezing", "fatigue"],
    "symptom_cap": ["Cough", "Fever", "Dyspnea", "Chest pain", "Hemoptysis", "Night sweats"],
    "followed": ["pneumonia", "pleural effusion", "heart failure", "known nodule", "line placement"],
    "lungs_clear": [
        "The lungs are clear.",
        "The lungs are clear bilaterally without focal consolidation.",
        "No focal airspace disease is seen.",
        "The lungs are well expanded and clear.",
        "The lungs are mildly hyperinflated but clear.",
        "Lung volumes are low with crowding of the bronchovascular markings.",
        "There is no focal consolidation, pneumothorax or effusion.",
    ],
    "pleura_clear": [
        "No pleural effusion or pneumothorax.",
        "The costophrenic angles are sharp.",
        "There is no evidence of pneumothorax.",
        "The pleural spaces are clear.",
    ],
    "heart_normal": [
        "The heart is normal in size.",
        "Heart size and mediastinal contours are within normal limits.",
        "The cardiomediastinal silhouette is unremarkable.",
        "Cardiothoracic ratio is {ratio_normal}.",
        "The heart size is at the upper limits of normal.",
    ],
    "ratio_normal": ["0.42", "0.44", "0.45", "0.47", "0.48", "0.49"],
    "ratio_large": ["0.54", "0.56", "0.58", "0.61", "0.63"],
    "heart_large": [
        "The heart is enlarged.",
        "There is {grade} cardiomegaly with a cardiothoracic ratio of {ratio_large}.",
        "The cardiac silhouette is enlarged compared with the {when}.",
    ],
    "bones": [
        "No acute bony abnormality.",
        "The osseous structures are intact.",
        "There are {grade} degenerative changes of the thoracic spine.",
        "{age} fracture of the {side} {rib} rib.",
        "{grade} wedge compression deformity at {level}, unchanged.",
        "The bones are diffusely osteopenic.",
        "Mild scoliosis convex to the {side}.",
        "",
    ],
    "devices": [
        "",
        "",
        "",
        "The {side} central venous catheter ends in the superior vena cava.",
        "Endotracheal tube tip lies {size} above the carina.",
        "A dual-chamber pacemaker is in place with intact leads.",
        "Median sternotomy wires are intact.",
        "The nasogastric tube passes below the diaphragm.",
        "Surgical clips project over the {side} axilla.",
    ],
    "aorta": ["", "", "The aorta is tortuous.", "Aortic calcification is noted.", "The aortic knob is calcified."],
    "effusion": [
        "There is a {grade} {side} pleural effusion.",
        "Pleural effusion on the {side}, {grade}, with blunting of the costophrenic angle.",
        "Layering {side} effusion measuring about {size} in depth.",
        "Blunting of the {side} costophrenic angle, {hedge} a {grade} effusion.",
        "The {side} pleural effusion has increased since the {when}.",
    ],
    "effusion_more": [
        "Adjacent {side} basilar opacity, {hedge} atelectasis.",
        "Associated compressive atelectasis of the {side} lower lobe.",
        "No pneumothorax is seen.",
        "Fluid tracks into the {side} fissure.",
    ],
    "nodule": [
        "There is a {size} nodule in the {side} {zone}.",
        "A rounded opacity of {size} projects over the {side} {zone}.",
        "Cavitary lesion of {size} in the {side} {lobe}.",
        "Spiculated mass in the {side} {lobe}, measuring {size}.",
    ],
    "nodule_more": [
        "It was not seen on the {when}.",
        "It is unchanged from the {when}.",
        "No calcification is visible within it.",
        "The {side} hilum is prominent, {hedge} lymphadenopathy.",
    ],
    "pneumonia": [
        "Patchy airspace opacity in the {side} {lobe}, {hedge} pneumonia.",
        "Focal consolidation of the {side} {lobe} with air bronchograms.",
        "Ill-defined opacity in the {side} {zone}, {hedge} infection or aspiration.",
        "Confluent airspace disease obscures the {side} hemidiaphragm.",
    ],
    "pneumonia_more": [
        "It was not seen on the {when}.",
        "The remaining lung is clear.",
        "The right middle lobe and lingula are spared.",
        "No cavitation.",
    ],
    "failure": [
        "There is {grade} pulmonary vascular congestion.",
        "Interstitial edema with Kerley B lines at both bases.",
        "Cephalization of the pulmonary vessels, {hedge} elevated venous pressure.",
        "Diffuse interstitial thickening and indistinct hilar vessels.",
        "Perihilar haze in a butterfly distribution, {hedge} alveolar edema.",
    ],
    "failure_more": [
        "Small bilateral pleural effusions are present.",
        "The azygos vein is distended.",
        "No focal consolidation.",
        "Findings have progressed since the {when}.",
    ],
    "normal_impression": [
        "No acute cardiopulmonary abnormality.",
        "Normal chest radiograph.",
        "No acute disease.",
        "No evidence of active pulmonary disease.",
        "Stable chest without acute findings.",
    ],
    "effusion_impression": [
        "{grade} {side} pleural effusion.",
        "{side} effusion with basilar atelectasis.",
        "{grade} {side} effusion. Ultrasound may be helpful if drainage is considered.",
        "Pleural effusion on the {side}, underlying infection cannot be excluded.",
    ],
    "nodule_impression": [
        "{size} nodule in the {side} lung. Chest CT is recommended.",
        "Nodular opacity of the {side} lung. Malignancy cannot be excluded.",
        "{side} pulmonary nodule, {hedge} granuloma. Comparison with older films is advised.",
    ],
    "pneumonia_impression": [
        "{side} {lobe} pneumonia. Follow-up in {weeks} weeks is recommended to document resolution.",
        "Opacity in the {side} lung, {hedge} pneumonia in the appropriate clinical setting.",
        "New {side} airspace opacity, {hedge} aspiration.",
    ],
    "failure_impression": [
        "Cardiomegaly with interstitial edema, {hedge} congestive heart failure.",
        "Findings of {grade} congestive heart failure.",
        "{grade} pulmonary edema, worse than on the {when}.",
    ],
    "weeks": ["4", "6", "8"],
}


class Report:
    """What one report says: rules expanded into words, some facts drawn only once."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.facts: dict[str, str] = {}

    def say(self, rule: str) -> str:
        """Expand one rule of the grammar into plain words."""
        if rule in self.facts:
            return self.facts[rule]
        text = str(self.rng.choice(GRAMMAR[rule]))
        while "{" in text:
            before, _, rest = text.partition("{")
            word, _, after = rest.partition("}")
            text = before + self.say(word) + after
        if rule in ONCE:
            self.facts[rule] = text
        return text

    def sentence(self, rule: str) -> str:
        """The same, beginning with a capital."""
        text = self.say(rule)
        return text[:1].upper() + text[1:]


def compose(case: Case) -> str:
    """One report of 25 to 80 words, in the sections of a radiology department."""
    rng, report = case.rng, Report(case.rng)
    theme = str(rng.choice(["nodule", "pneumonia"])) if case.label == "opacity" else case.label
    if theme == "normal":
        findings = ["lungs_clear", "pleura_clear", "heart_normal"]
    else:
        findings = [theme, f"{theme}_more", "heart_large" if theme == "failure" else "heart_normal"]
    if rng.random() < 0.4:  # radiologists differ in where they begin
        findings = [findings[2], *findings[:2]]
    body = " ".join(filter(None, map(report.sentence, [*findings, "aorta", "bones", "devices"])))
    head = f"EXAM: {report.say('view')}.\nINDICATION: {report.say('history')}\n" if rng.random() < 0.7 else ""
    return f"{head}FINDINGS: {body}\nIMPRESSION: {report.sentence(theme + '_impression')}\n"


def write(root: Path, count: int, seed: int) -> None:
    """Write `count` reports: every third as a .txt file, the others as rows of one CSV file per split.

    The manifest's `index` is the row of the CSV (from 0), empty for a .txt file.
    """
    (root / "txt").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str]] = []
    tables: dict[str, list[tuple[str, str]]] = {}
    for case in cases(count, seed, CLASSES):
        text = compose(case)
        if case.index % 3 == 2:
            name = f"txt/{case.stem}.txt"
            (root / name).write_text(text, encoding="utf-8")
            rows.append(row(case, name, index=""))
        else:
            table = tables.setdefault(case.split, [])
            name = "reports.csv" if case.split == "train" else f"reports_{case.split}.csv"
            rows.append(row(case, name, index=str(len(table))))
            table.append((case.group, " ".join(text.split())))
    for split, table in tables.items():
        name = "reports.csv" if split == "train" else f"reports_{split}.csv"
        with (root / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("id", "text"))
            writer.writerows(table)
    write_manifest(root, rows)
