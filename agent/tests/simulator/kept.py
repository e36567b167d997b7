# SPDX-License-Identifier: GPL-3.0-or-later
"""Minimal plans of failures that were found, by what was learned from them.

Each failed once by its engine, its model or its judge; the test of the simulator plays them all.
"""

from __future__ import annotations

from simulator.plan import Fault, Plan

KEPT = {
    "what several links lose in one round of questions is no fenced kernel": Plan(
        seed=205679,
        links=3,
        gateways=True,
        faults=(
            Fault(at_ms=780, what="loss", for_ms=500, amount=5),
            Fault(at_ms=950, what="restart", node=1, amount=300),
        ),
    ),
    "who forgets a claim that was not written yet leaves its epoch to the other": Plan(
        profile="metal",
        late_us=100,
        faults=(
            Fault(at_ms=100, what="stop", node=1, for_ms=1),
            Fault(at_ms=141, what="stall", node=2, for_ms=76),
        ),
    ),
    "a recording of the peer's earlier life is no sign of life": Plan(
        faults=(
            Fault(at_ms=400, what="replay", node=2, for_ms=400),
            Fault(at_ms=600, what="crash", node=1, for_ms=1),
        )
    ),
    "an answer that comes twice is no second answer": Plan(
        faults=(
            Fault(at_ms=0, what="kill", node=1),
            Fault(at_ms=0, what="double", for_ms=200, amount=50),
        )
    ),
    "an answer that comes twice is none to a question that was lost": Plan(
        gateways=True,
        faults=(
            Fault(at_ms=200, what="double", for_ms=600, amount=50),
            Fault(at_ms=300, what="uplink", node=2, for_ms=300),
            Fault(at_ms=500, what="kill", node=1),
        ),
    ),
    "nobody follows a living peer because answers come twice after a cut": Plan(
        gateways=True,
        faults=(
            Fault(at_ms=0, what="uplink", node=2, for_ms=300),
            Fault(at_ms=0, what="beats", node=1, for_ms=1000),
            Fault(at_ms=0, what="double", for_ms=1000, amount=50),
        ),
    ),
    "what answered early in a long silence gives no standing at its end": Plan(
        gateways=True,
        faults=(
            Fault(at_ms=1000, what="stall", node=1),
            Fault(at_ms=1170, what="gateways", node=2, for_ms=200),
        ),
    ),
    "who was unsure and is late again stays unsure": Plan(
        profile="relaxed",
        faults=(
            Fault(at_ms=3250, what="starve", node=1, for_ms=1760),
            Fault(at_ms=5190, what="starve", node=1, for_ms=880),
        ),
    ),
    "who was followed unheard announces when its follower has fallen": Plan(
        seed=53255,
        faults=(
            Fault(at_ms=600, what="pause", node=1, for_ms=338),
            Fault(at_ms=940, what="gate", node=2),
        ),
    ),
    "who was followed unheard announces when its follower says farewell": Plan(
        faults=(
            Fault(at_ms=5000, what="pause", node=1, for_ms=338),
            Fault(at_ms=5339, what="stop", node=2, for_ms=100),
        )
    ),
    "who reached nobody when it was elected has standing once it meets its passive peer": Plan(
        gateways=True,
        cold=True,
        faults=(
            Fault(at_ms=190, what="uplink", node=2, for_ms=400),
            Fault(at_ms=200, what="uplink", node=1, for_ms=170),
            Fault(at_ms=300, what="kill", node=2, amount=150),
            Fault(at_ms=900, what="uplink", node=2, for_ms=250),
        ),
    ),
    "a taker that reaches somebody needs no standing of its giver": Plan(
        profile="fast",
        gateways=True,
        faults=(
            Fault(at_ms=0, what="gateways", for_ms=2500),
            Fault(at_ms=100, what="crash", node=1, for_ms=50),
            Fault(at_ms=100, what="crash", node=2, for_ms=50),
            Fault(at_ms=2640, what="switchover"),
            Fault(at_ms=5000, what="partition", for_ms=400),
            Fault(at_ms=5035, what="stall", node=1, for_ms=14),
            Fault(at_ms=7000, what="lag", amount=2),
        ),
    ),
    "a gate that is made anew within its lease is opened again": Plan(
        faults=(
            Fault(at_ms=900, what="starve", node=1, for_ms=244),
            Fault(at_ms=1113, what="gate", node=1, for_ms=11, amount=1),
        )
    ),
    "a role that was given is no prize of a partition": Plan(
        gateways=True,
        faults=(
            Fault(at_ms=0, what="switchover"),
            Fault(at_ms=2, what="starve", node=2, for_ms=300, amount=1),
            Fault(at_ms=100, what="uplink", node=2),
        ),
    ),
    "a higher claim binds however late it is heard": Plan(
        profile="fast",
        faults=(
            Fault(at_ms=0, what="stall", node=1, for_ms=144),
            Fault(at_ms=133, what="starve", node=1, for_ms=70),
        ),
    ),
    "who was followed goes on if it hears that its follower has fallen since": Plan(
        faults=(
            Fault(at_ms=1, what="starve", node=1, for_ms=400, amount=1),
            Fault(at_ms=400, what="gate", node=2, for_ms=45, amount=1),
        )
    ),
    "who hands over gives its standing along": Plan(
        gateways=True,
        faults=(
            Fault(at_ms=0, what="gateways", node=2, for_ms=4500),
            Fault(at_ms=3000, what="switchover"),
        ),
    ),
    "who reached nobody does not win over who carried the traffic": Plan(
        gateways=True, faults=(Fault(at_ms=2000, what="uplink", node=2, for_ms=3000),)
    ),
    "who lost the last service link takes no hand-over": Plan(
        faults=(
            Fault(at_ms=0, what="switchover"),
            Fault(at_ms=50, what="carrier", node=2, links=(1, 3), for_ms=40),
        )
    ),
    "who answered before the peer's kernel fell silent gives no standing": Plan(
        profile="fast",
        gateways=True,
        faults=(
            Fault(at_ms=400, what="stall", node=1),
            Fault(at_ms=476, what="silent", node=2, for_ms=13),
        ),
    ),
    "one answer of the past does not raise a claim": Plan(
        gateways=True,
        cold=True,
        faults=(Fault(at_ms=120, what="uplink", node=1, for_ms=1600),),
    ),
    "a claim that is raised keeps its epoch": Plan(
        gateways=True,
        faults=(
            Fault(at_ms=0, what="switchover"),
            Fault(at_ms=0, what="gateways", for_ms=2500),
            Fault(at_ms=100, what="one-way", node=2, for_ms=4300),
        ),
    ),
    "who closes its gate is heard at once, so its offer is void": Plan(
        faults=(
            Fault(at_ms=490, what="gate", node=1),
            Fault(at_ms=550, what="gate", node=2, for_ms=13),
        )
    ),
    "who was cut off hears its peer before it starts isolated": Plan(
        gateways=True,
        faults=(
            Fault(at_ms=0, what="uplink", node=2, for_ms=16500),
            Fault(at_ms=0, what="crash", node=2, for_ms=1),
        ),
    ),
    "a silence before they met makes no peer deaf, and who stays announces": Plan(
        links=3,
        faults=(
            Fault(at_ms=0, what="restart", node=2, amount=314),
            Fault(at_ms=4000, what="partition", for_ms=5016),
        ),
    ),
    "who stays beside a peer that could not hear it announces when that one has yielded": Plan(
        seed=120,
        profile="fast",
        damping=True,
        faults=(
            Fault(at_ms=0, what="uplink", node=1, for_ms=49),
            Fault(at_ms=200, what="one-way", node=2, for_ms=890),
            Fault(at_ms=400, what="partition", for_ms=22),
        ),
    ),
    "what a stopped heart did not say makes no peer deaf": Plan(
        faults=(
            Fault(at_ms=0, what="partition", for_ms=300),
            Fault(at_ms=0, what="one-way", node=2, for_ms=4300),
            Fault(at_ms=400, what="stall", node=2),
        )
    ),
    "a stop of the heart begins the count of deafness anew, at any profile": Plan(
        profile="fast",
        faults=(
            Fault(at_ms=0, what="one-way", node=2, for_ms=800),
            Fault(at_ms=0, what="partition", for_ms=40),
            Fault(at_ms=70, what="stall", node=2),
        ),
    ),
    "who was stopped while the wires were mended yields to no peer that can hear it": Plan(
        faults=(
            Fault(at_ms=0, what="partition", for_ms=400),
            Fault(at_ms=350, what="stall", node=2, for_ms=3000),
        )
    ),
    "who resumes announces, for the peer may have come and gone": Plan(
        faults=(
            Fault(at_ms=0, what="restart", node=1, amount=700),
            Fault(at_ms=0, what="partition"),
            Fault(at_ms=400, what="kill", node=2),
        )
    ),
    "an announced restart that takes too long ends as any other": Plan(
        profile="metal", faults=(Fault(at_ms=0, what="restart", node=1, amount=3100),)
    ),
    "a farewell right after a long stall tells of the change that it has just heard of": Plan(
        skew="major",
        faults=(
            Fault(at_ms=0, what="stall", node=1),
            Fault(at_ms=0, what="stop", node=1, for_ms=400),
        ),
    ),
    "an announcement that nobody had asked for tells that the peer forwards": Plan(
        seed=521838,
        latency_us=50,
        late_us=2000,
        faults=(
            Fault(at_ms=470, what="carrier", node=2, for_ms=360),
            Fault(at_ms=840, what="carrier", node=1, for_ms=90),
        ),
    ),
    "so do answers that came while a busy heart could not ask": Plan(
        faults=(
            Fault(at_ms=570, what="restart", node=1, amount=69),
            Fault(at_ms=799, what="busy", node=2, for_ms=388, amount=240),
            Fault(at_ms=970, what="beats", node=1),
            Fault(at_ms=1180, what="partition", for_ms=160),
        )
    ),
    "and those that waited while the machine stood still": Plan(
        faults=(
            Fault(at_ms=0, what="starve", node=2, for_ms=100),
            Fault(at_ms=0, what="pause", node=2, for_ms=1, amount=1),
            Fault(at_ms=30, what="partition", for_ms=300),
        )
    ),
    "who is unsure and stands still for a moment listens for longer": Plan(
        faults=(
            Fault(at_ms=480, what="starve", node=1, for_ms=320),
            Fault(at_ms=750, what="starve", node=2, for_ms=270),
            Fault(at_ms=1000, what="starve", node=1, for_ms=50),
        )
    ),
    "and who stands still for as long as it takes to be followed listens anew": Plan(
        profile="fast",
        faults=(
            Fault(at_ms=100, what="starve", node=1, for_ms=248),
            Fault(at_ms=349, what="starve", node=1, for_ms=99),
        ),
    ),
    "also when its peer had been silent for long": Plan(
        faults=(
            Fault(at_ms=0, what="uplink", node=2, for_ms=3200),
            Fault(at_ms=2750, what="starve", node=1, for_ms=1240),
            Fault(at_ms=4000, what="starve", node=1, for_ms=250),
        )
    ),
    "who stands still as the cable comes back accuses nobody, though it was late before": Plan(
        profile="fast",
        faults=(
            Fault(at_ms=0, what="hold", node=2),
            Fault(at_ms=0, what="partition", for_ms=1500),
            Fault(at_ms=300, what="starve", node=2, for_ms=200),
            Fault(at_ms=1500, what="starve", node=2, for_ms=49),
        ),
    ),
    "who is late at every turn ten dead after the last word may accuse": Plan(
        profile="fast",
        faults=(
            Fault(at_ms=0, what="hold", node=2),
            Fault(at_ms=0, what="partition", for_ms=1550),
            Fault(at_ms=1500, what="starve", node=2, for_ms=40),
            Fault(at_ms=1550, what="starve", node=2, for_ms=60),
        ),
    ),
    "a paused machine knows nothing of what came meanwhile": Plan(
        faults=(
            Fault(at_ms=0, what="one-way", node=1, for_ms=8700),
            Fault(at_ms=7700, what="starve", node=2, for_ms=250),
            Fault(at_ms=8006, what="starve", node=1, for_ms=1250),
            Fault(at_ms=9290, what="pause", node=1, for_ms=300),
        )
    ),
    "nor has the age of an answer grown in a pause": Plan(
        gateways=True,
        faults=(
            Fault(at_ms=40, what="pause", node=1),
            Fault(at_ms=120, what="pause", node=2, for_ms=85, amount=1),
            Fault(at_ms=200, what="silent", node=2, for_ms=200),
        ),
    ),
    "a gate that was made anew counts as if it had stayed": Plan(
        faults=(
            Fault(at_ms=300, what="partition", for_ms=180),
            Fault(at_ms=382, what="gate", node=1, for_ms=254, amount=1),
            Fault(at_ms=500, what="starve", node=1, for_ms=196),
        )
    ),
    "who has given up behind a deaf gate and says so may be followed": Plan(
        profile="relaxed",
        links=3,
        faults=(
            Fault(at_ms=3000, what="restart", node=1, amount=300),
            Fault(at_ms=3370, what="gate", node=1, for_ms=100, amount=1),
        ),
    ),
    "where the network loses answers a fenced kernel takes more rounds to be believed": Plan(
        links=3,
        gateways=True,
        faults=(
            Fault(at_ms=0, what="beats"),
            Fault(at_ms=0, what="loss", amount=7),
            Fault(at_ms=0, what="jitter", for_ms=2500, amount=4500),
        ),
    ),
    "a stop waits for the turn of a busy heart": Plan(
        seed=138670,
        profile="metal",
        latency_us=50,
        late_us=100,
        faults=(
            Fault(at_ms=112, what="busy", node=1, amount=6),
            Fault(at_ms=136, what="crash", node=2),
            Fault(at_ms=146, what="stop", node=1, for_ms=7),
        ),
    ),
    "so does an order to hand over": Plan(
        seed=144769,
        profile="metal",
        faults=(
            Fault(at_ms=0, what="busy", node=1, amount=120),
            Fault(at_ms=8, what="switchover"),
        ),
    ),
}
