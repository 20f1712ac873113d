
// What is to be said: lines of text, the first of which is the answer.
const LONGEST = 48; // characters of a name
const MOST = 12; // names in a sentence
const LINE = 400; // characters of a reason

const brief = (name) => cut(name, LONGEST);
const listed = (names) => names.slice(0, MOST).map(brief).join(", ") +
  (names.length > MOST ? ` and ${names.length - MOST} more` : "");
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const arrowed = (text) => cut(text, LINE).replaceAll(" -> ", " → ").replaceAll(" <- ", " ← ");

// Why a figure cannot be asked about independence; nothing where it can.
function refusal(g) {
  if (!g) return "The solid arrows make no acyclic graph, so independence cannot be asked here.";
  return g.lagged && `${brief(g.lagged)} depends on an earlier time slice: the graph of one slice ` +
    "does not tell how variables of different times hang together.";
}

function narrator(g, state, { given, always, isVariable, isInput, refused }) {
  function words({ asks, apart, answer, lit, over, known, inside }) {
    const under = given().length ? ` given ${listed(given())}` : "";
    if (inside) return [brief(over), `A module of ${inside.length} variables; click to open it.`];
    if (answer) return [
      answer.independent
        ? `${brief(state.query)} and ${brief(over)} are independent${under}`
        : `${brief(state.query)} and ${brief(over)} may depend on each other${under}`,
      ...answer.reasons.map(arrowed),
    ];
    if (asks && over !== null && state.observed.has(over)) return [`${brief(over)} is observed`, "Its value is known, so it depends on nothing."];
    if (asks) return asked(apart, under);
    if (lit) return blanketed(lit, over, known);
    if (over !== null && g && !isVariable(over)) return [brief(over), "It belongs to the inference or the cost, not to the model."];
    if (refused) return [over === null ? "Figure" : brief(over), refused];
    const named = given().length ? `Observed: ${listed(given())}` : "Nothing is observed";
    const found = g.names.filter((n) => known.has(n) && !always.has(n) && !state.observed.has(n));
    return [named, ...(found.length ? [`This determines ${listed(found)}.`] : []), hint()];
  }

  const hint = () => state.mode === "observe"
    ? "Click a variable to observe it; point at one to see its Markov blanket."
    : "Click two variables: are they independent?";

  function asked(apart, under) {
    const rest = g.names.filter((n) => n !== state.query && !apart.has(n) && !state.observed.has(n));
    const free = [...apart];
    return [
      `${brief(state.query)}${under}`,
      ...(rest.length ? [`may depend on ${listed(rest)}`] : []),
      ...(free.length ? [`${rest.length ? "but " : ""}is independent of ${listed(free)}.`] : []),
      "Point at another variable for the trail that joins them.",
    ];
  }

  function blanketed({ parents, children, mates }, over, known) {
    const status = state.observed.has(over) ? ", observed" : isInput(over) ? ", an input: always given"
      : known.has(over) ? ", determined" : "";
    const parts = { Parents: parents, Children: children, "Other parents of its children": mates };
    const lines = Object.entries(parts).filter(([, names]) => names.length);
    return [`${brief(over)}${status}`, ...lines.map(([word, names]) => `${word}: ${listed(names)}`),
      lines.length ? "Given these, the rest is independent of it." : "It stands alone."];
  }

  return { words, hint };
}
