"""Class names of Kinetics-600 and -700 beyond those of Kinetics-400, as their lists spell them.

Kinetics-400's are torchvision's. A class that a later list calls otherwise stands in `RENAMED`, one
that it has no more in `DROPPED`.
"""

from __future__ import annotations

RENAMED = {  # Kinetics-400: by the lists of Kinetics-600 and -700, by that of Kinetics-700 alone
    "balloon blowing": "inflating balloons",
    "changing wheel": "changing wheel (not on bike)",
    "cooking sausages": "cooking sausages (not on barbeque)",
    "drinking": "sipping cup",
    "dying hair": "dyeing hair",
    "garbage collecting": "person collecting garbage",
    "hugging": "hugging (not baby)",
    "making bed": "making the bed",
    "opening bottle": "opening bottle (not wine)",
    "skiing (not slalom or crosscountry)": "skiing mono",
    "throwing ball": "throwing ball (not baseball or American football)",
    "tying tie": "tying necktie",
}
RENAMED_LAST = {"picking fruit": "picking apples"}

DROPPED_600 = """baby waking up, cleaning floor, cooking chicken, digging, drinking beer, exercising
arm, filling eyebrows, gargling, playing cards, riding mountain bike, shredding paper, spraying,
strumming guitar, swinging legs, taking a shower, tossing salad, using computer, vault"""
DROPPED_700 = """cleaning floor, drinking beer, riding mountain bike, strumming guitar, swinging
legs, taking a shower, using computer, vault"""

IN_600_ALONE = "bull fighting, chopping vegetables"
SINCE_600 = """acting in play, adjusting glasses, alligator wrestling, archaeological excavation,
arguing, assembling bicycle, attending conference, backflip (human), base jumping, bathing dog,
battle rope training, blowdrying hair, blowing bubble gum, bodysurfing, bottling, bouncing on bouncy
castle, breaking boards, breathing fire, building lego, building sandcastle, bulldozing, burping,
calculating, calligraphy, capsizing, card stacking, card throwing, carving ice, casting fishing
line, changing gear in car, chewing gum, chiseling stone, chiseling wood, chopping meat, clam
digging, coloring in, combing hair, contorting, cooking scallops, cosplaying, cracking back,
cracking knuckles, crossing eyes, cumbia, curling (sport), cutting apple, cutting orange, delivering
mail, directing traffic, docking boat, doing jigsaw puzzle, drooling, dumpster diving, dyeing
eyebrows, embroidering, falling off bike, falling off chair, fencing (sport), fidgeting, fixing
bicycle, flint knapping, fly tying, geocaching, getting a piercing, gold panning, gospel singing in
church, hand washing clothes, head stand, historical reenactment, home roasting coffee, huddling,
hugging baby, ice swimming, installing carpet, ironing hair, jaywalking, jumping bicycle, jumping
jacks, karaoke, land sailing, lawn mower racing, laying concrete, laying stone, laying tiles,
leatherworking, licking, lifting hat, lighting fire, lock picking, longboarding, looking at phone,
luge, making balloon shapes, making bubbles, making cheese, making horseshoes, making paper
aeroplanes, marriage proposal, massaging neck, moon walking, mosh pit dancing, mountain climber
(exercise), mushroom foraging, needle felting, opening door, opening refrigerator, opening wine
bottle, packing, passing soccer ball, photobombing, photocopying, pillow fight, pinching,
pirouetting, planing wood, playing beer pong, playing blackjack, playing darts, playing dominoes,
playing field hockey, playing gong, playing hand clapping games, playing laser tag, playing lute,
playing maracas, playing marbles, playing netball, playing ocarina, playing pan pipes, playing
pinball, playing ping pong, playing polo, playing rubiks cube, playing scrabble, playing with
trains, poking bellybutton, polishing metal, popping balloons, pouring beer, preparing salad,
pushing wheelbarrow, putting in contact lenses, putting on eyeliner, putting on foundation, putting
on lipstick, putting on mascara, putting on sari, putting on shoes, raising eyebrows, repairing
puncture, riding snow blower, roasting marshmallows, roasting pig, rolling pastry, rope pushdown,
sausage making, sawing wood, scrapbooking, scrubbing face, separating eggs, sewing, shaping bread
dough, shining flashlight, shopping, shucking oysters, shuffling feet, skipping stone, sleeping,
smashing, smoking pipe, spelunking, square dancing, standing on hands, staring, steer roping,
sucking lolly, swimming front crawl, swinging baseball bat, sword swallowing, tackling, tagging
graffiti, talking on cell phone, tasting wine, threading needle, throwing knife, throwing snowballs,
throwing tantrum, throwing water balloon, tie dying, tightrope walking, tiptoeing, trimming shrubs,
twiddling fingers, tying shoe laces, using a microscope, using a paint roller, using a power drill,
using a sledge hammer, using a wrench, using atm, using bagging machine, using circular saw, using
inhaler, using puppets, vacuuming floor, visiting the zoo, wading through mud, wading through water,
waking up, walking through snow, watching tv, waving hand, weaving fabric, winking, wood burning
(art), yarn spinning"""
SINCE_700 = """poaching eggs, playing nose flute, entering church, closing door, helmet diving,
doing sudoku, coughing, seasoning food, peeling banana, eating nachos, waxing armpits, shouting,
silent disco, polishing furniture, taking photo, dealing cards, putting wallpaper on wall, uncorking
champagne, curling eyelashes, brushing floor, pulling espresso shot, playing american football,
grooming cat, playing checkers, moving child, stacking cups, squeezing orange, opening coconuts,
rolling eyes, picking blueberries, playing road hockey, carving wood with a knife, slicing onion,
saluting, letting go of balloon, breaking glass, carrying weight, mixing colours, moving baby,
blending fruit, pouring milk, surveying, making slime, sieving, walking with crutches, flipping
bottle, playing billiards, arresting, listening with headphones, spinning plates, carving marble,
cutting cake, shoot dance, being excited, petting horse, splashing water, filling cake, stacking
dice, checking watch, treating wood, laying decking, shooting off fireworks, pouring wine,
pretending to be a statue, steering car, playing rounders, looking in mirror, jumping sofa, lighting
candle, walking on stilts, crocheting, playing piccolo, vacuuming car, high fiving, playing
shuffleboard, chasing, pulling rope (game), being in zero gravity, sanding wood, decoupage, using
megaphone, making latte art, ski ballet, playing oboe, bouncing ball (not juggling), playing
mahjong, herding cattle, swimming with sharks, milking goat, swimming with dolphins, metal
detecting, playing slot machine"""


def names(text: str) -> list[str]:
    return [" ".join(name.split()) for name in text.split(",")]


def kinetics() -> dict[str, list[str]]:
    """The classes of the three sets, sorted as their lists are."""
    from torchvision.models._meta import _KINETICS400_CATEGORIES

    first = list(_KINETICS400_CATEGORIES)
    later = [RENAMED.get(name, name) for name in first]
    of_600 = [name for name in later if name not in names(DROPPED_600)]
    of_700 = [RENAMED_LAST.get(n, n) for n in later if n not in names(DROPPED_700)]
    return {
        "k400": sorted(first),
        "k600": sorted(of_600 + names(SINCE_600) + names(IN_600_ALONE)),
        "k700": sorted(of_700 + names(SINCE_600) + names(SINCE_700)),
    }
