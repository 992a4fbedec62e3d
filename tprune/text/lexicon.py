"""The words of the embedded corpus, with their forms."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """English singular and plural; German singular, plural, gender (m, f, n)."""

    en: str
    en_plural: str
    de: str
    de_plural: str
    gender: str


@dataclass(frozen=True)
class Verb:
    """English base, third person, past participle; German stem forms, participle, particle.

    `ich`, `du`, `er`, `wir` are the finite forms of the present; a separable verb's particle stands
    at the end of a main clause and before the verb in a subordinate one.
    """

    en: str
    en_s: str
    en_done: str
    ich: str
    du: str
    er: str
    wir: str
    done: str
    particle: str = ""


def _rows(table: str) -> list[list[str]]:
    return [entry.split("|") for entry in table.split()]


PEOPLE = tuple(
    Noun(*row)
    for row in _rows("""
man|men|Mann|Männer|m woman|women|Frau|Frauen|f child|children|Kind|Kinder|n teacher|teachers|Lehrer|Lehrer|m
doctor|doctors|Arzt|Ärzte|m nurse|nurses|Krankenschwester|Krankenschwestern|f girl|girls|Mädchen|Mädchen|n
friend|friends|Freund|Freunde|m sister|sisters|Schwester|Schwestern|f brother|brothers|Bruder|Brüder|m
mother|mothers|Mutter|Mütter|f father|fathers|Vater|Väter|m uncle|uncles|Onkel|Onkel|m aunt|aunts|Tante|Tanten|f
baker|bakers|Bäcker|Bäcker|m gardener|gardeners|Gärtner|Gärtner|m singer|singers|Sängerin|Sängerinnen|f
painter|painters|Maler|Maler|m driver|drivers|Fahrer|Fahrer|m neighbor|neighbors|Nachbarin|Nachbarinnen|f
cook|cooks|Köchin|Köchinnen|f farmer|farmers|Landwirt|Landwirte|m baby|babies|Baby|Babys|n
guest|guests|Gast|Gäste|m king|kings|König|Könige|m queen|queens|Königin|Königinnen|f
""")
)
THINGS = tuple(
    Noun(*row)
    for row in _rows("""
book|books|Buch|Bücher|n letter|letters|Brief|Briefe|m lamp|lamps|Lampe|Lampen|f table|tables|Tisch|Tische|m
chair|chairs|Stuhl|Stühle|m house|houses|Haus|Häuser|n car|cars|Auto|Autos|n bicycle|bicycles|Fahrrad|Fahrräder|n
apple|apples|Apfel|Äpfel|m flower|flowers|Blume|Blumen|f picture|pictures|Bild|Bilder|n bag|bags|Tasche|Taschen|f
hat|hats|Hut|Hüte|m coat|coats|Mantel|Mäntel|m shirt|shirts|Hemd|Hemden|n shoe|shoes|Schuh|Schuhe|m
bottle|bottles|Flasche|Flaschen|f cup|cups|Tasse|Tassen|f plate|plates|Teller|Teller|m knife|knives|Messer|Messer|n
key|keys|Schlüssel|Schlüssel|m door|doors|Tür|Türen|f window|windows|Fenster|Fenster|n clock|clocks|Uhr|Uhren|f
ticket|tickets|Fahrkarte|Fahrkarten|f newspaper|newspapers|Zeitung|Zeitungen|f map|maps|Karte|Karten|f
phone|phones|Telefon|Telefone|n egg|eggs|Ei|Eier|n cake|cakes|Kuchen|Kuchen|m ball|balls|Ball|Bälle|m
boat|boats|Boot|Boote|n garden|gardens|Garten|Gärten|m tree|trees|Baum|Bäume|m dog|dogs|Hund|Hunde|m
cat|cats|Katze|Katzen|f bird|birds|Vogel|Vögel|m fish|fishes|Fisch|Fische|m horse|horses|Pferd|Pferde|n
""")
)
PLACES = tuple(
    Noun(*row)
    for row in _rows("""
kitchen|kitchens|Küche|Küchen|f school|schools|Schule|Schulen|f office|offices|Büro|Büros|n
park|parks|Park|Parks|m church|churches|Kirche|Kirchen|f room|rooms|Zimmer|Zimmer|n forest|forests|Wald|Wälder|m
town|towns|Stadt|Städte|f village|villages|Dorf|Dörfer|n hotel|hotels|Hotel|Hotels|n museum|museums|Museum|Museen|n
library|libraries|Bibliothek|Bibliotheken|f hospital|hospitals|Krankenhaus|Krankenhäuser|n
""")
)
OF_PEOPLE = tuple(
    (english, german)
    for english, german in _rows("""
old|alt young|jung small|klein big|groß beautiful|schön good|gut friendly|freundlich tired|müde happy|glücklich
strong|stark quiet|ruhig famous|berühmt rich|reich poor|arm
""")
)
OF_THINGS = tuple(
    (english, german)
    for english, german in _rows("""
old|alt small|klein big|groß beautiful|schön good|gut new|neu red|rot blue|blau green|grün white|weiß black|schwarz
cheap|billig heavy|schwer light|leicht clean|sauber bad|schlecht long|lang short|kurz round|rund
""")
)
TRANSITIVE = tuple(
    Verb(*row)
    for row in _rows("""
see|sees|seen|sehe|siehst|sieht|sehen|gesehen buy|buys|bought|kaufe|kaufst|kauft|kaufen|gekauft
find|finds|found|finde|findest|findet|finden|gefunden need|needs|needed|brauche|brauchst|braucht|brauchen|gebraucht
love|loves|loved|liebe|liebst|liebt|lieben|geliebt bring|brings|brought|bringe|bringst|bringt|bringen|gebracht
paint|paints|painted|male|malst|malt|malen|gemalt show|shows|shown|zeige|zeigst|zeigt|zeigen|gezeigt
carry|carries|carried|trage|trägst|trägt|tragen|getragen
sell|sells|sold|verkaufe|verkaufst|verkauft|verkaufen|verkauft
forget|forgets|forgotten|vergesse|vergisst|vergisst|vergessen|vergessen
seek|seeks|sought|suche|suchst|sucht|suchen|gesucht take|takes|taken|nehme|nimmst|nimmt|nehmen|genommen
open|opens|opened|mache|machst|macht|machen|aufgemacht|auf close|closes|closed|mache|machst|macht|machen|zugemacht|zu
order|orders|ordered|bestelle|bestellst|bestellt|bestellen|bestellt
fetch|fetches|fetched|hole|holst|holt|holen|abgeholt|ab
watch|watches|watched|schaue|schaust|schaut|schauen|angeschaut|an
lose|loses|lost|verliere|verlierst|verliert|verlieren|verloren clean|cleans|cleaned|putze|putzt|putzt|putzen|geputzt
""")
)
TAKE_PEOPLE = {"see", "find", "need", "love", "paint", "forget", "seek", "fetch", "watch"}
INTRANSITIVE = tuple(
    Verb(*row)
    for row in _rows("""
work|works|worked|arbeite|arbeitest|arbeitet|arbeiten|gearbeitet
sleep|sleeps|slept|schlafe|schläfst|schläft|schlafen|geschlafen
laugh|laughs|laughed|lache|lachst|lacht|lachen|gelacht sing|sings|sung|singe|singst|singt|singen|gesungen
wait|waits|waited|warte|wartest|wartet|warten|gewartet dance|dances|danced|tanze|tanzt|tanzt|tanzen|getanzt
play|plays|played|spiele|spielst|spielt|spielen|gespielt cry|cries|cried|weine|weinst|weint|weinen|geweint
eat|eats|eaten|esse|isst|isst|essen|gegessen read|reads|read|lese|liest|liest|lesen|gelesen
""")
)
TIMES = (
    ("today", "heute"),
    ("now", "jetzt"),
    ("often", "oft"),
    ("always", "immer"),
    ("in the morning", "am Morgen"),
    ("in the evening", "am Abend"),
    ("on Sunday", "am Sonntag"),
    ("on Monday", "am Montag"),
    ("every day", "jeden Tag"),
    ("in summer", "im Sommer"),
    ("in winter", "im Winter"),
)
