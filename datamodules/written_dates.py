"""Days as people write them, and as ISO 8601 does: a translation that needs no download and has one right answer."""

import datetime
import random
from collections.abc import Iterator

from datamodules.parallel_files import Pair

DAYS = 1000
FORMS_A_DAY = 3
FIRST, LAST = datetime.date(1950, 1, 1), datetime.date(2049, 12, 31)

MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
    "pl": "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia",
    "fi": "tammikuuta helmikuuta maaliskuuta huhtikuuta toukokuuta kesäkuuta heinäkuuta elokuuta syyskuuta lokakuuta "
    "marraskuuta joulukuuta",
}
FORMS = (
    *("{en} {d}, {y}", "{d} {en} {y}", "{d}. {de} {y}", "{d} {fr} {y}", "{d} de {es} de {y}", "{d} {it} {y}"),
    *("{d} {nl} {y}", "{d} {pl} {y}", "{d}. {fi} {y}", "{d}.{m}.{y}", "{y}/{m}/{d}"),
)


def written_dates() -> list[list[Pair]]:
    """For each of some days, its pairs (a written form, the ISO form); the same in every process."""
    draw = random.Random(0)
    span = (LAST - FIRST).days + 1
    days = (FIRST + datetime.timedelta(days=number) for number in draw.sample(range(span), DAYS))
    return [list(_forms(day, draw)) for day in days]


def _forms(day: datetime.date, draw: random.Random) -> Iterator[Pair]:
    months = {language: names.split()[day.month - 1] for language, names in MONTHS.items()}
    for form in draw.sample(FORMS, FORMS_A_DAY):
        yield form.format(d=day.day, m=day.month, y=day.year, **months), day.isoformat()
