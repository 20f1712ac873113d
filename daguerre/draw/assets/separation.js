"use strict";
// D-separation (Geiger, Verma and Pearl 1990) as daguerre.structure decides it, to the letter:
// variables by number, in order of declaration.
const daguerre = (() => {
  function graph({ names, parents, maps, inputs, inverts, lagged }) {
    const children = names.map(() => []);
    parents.forEach((above, child) => above.forEach((p) => children[p].push(child)));
    const constants = names.map((_, i) => i).filter((i) => maps[i] && !parents[i].length);
    const number = new Map(names.map((name, i) => [name, i]));
    const source = new Map(Object.entries(inverts).map(([i, p]) => [Number(i), p]));
    return { names, parents, children, maps, inputs, constants, number, inverts: source, lagged };
  }

  const numbers = (g, names) => names.map((name) => g.number.get(name));

  // What is determined: maps of what is known, and what known bijections recover.
  function closure(g, fixed) {
    const known = new Set();
    const waiting = g.parents.map((above) => above.length);
    const frontier = [...fixed, ...g.constants];
    while (frontier.length) {
      const i = frontier.pop();
      if (known.has(i)) continue;
      known.add(i);
      if (g.inverts.has(i) && waiting[i] === 1 && !known.has(g.inverts.get(i)))
        frontier.push(g.inverts.get(i));
      for (const child of g.children[i]) {
        const left = --waiting[child];
        if (left === 0 && g.maps[child]) frontier.push(child);
        else if (left === 1 && g.inverts.has(child) && known.has(child))
          frontier.push(g.inverts.get(child));
      }
    }
    return known;
  }

  function reach(starts, next) {
    const seen = new Set(starts);
    for (const i of seen) next[i].forEach((j) => seen.add(j));
    return seen;
  }

  function query(g, x, y, given) {
    const fixed = [...given, ...g.inputs.filter((i) => i !== x && i !== y)];
    const known = closure(g, fixed);
    return { g, x, y, fixed, known, opened: reach(known, g.parents) };
  }

  // Shortest open trails to all there is, breadth first; a state says whether it was reached
  // from a parent.
  function trails({ g, x, known, opened }) {
    const first = new Map();
    const seen = new Set([2 * x]);
    const frontier = known.has(x) ? [] : [{ i: x, fell: false, from: null }];
    for (const state of frontier) {
      if (!first.has(state.i)) first.set(state.i, state);
      const onward = [];
      if (!known.has(state.i)) onward.push(...g.children[state.i].map((i) => ({ i, fell: true })));
      if (opened.has(state.i) || !state.fell)
        for (const i of g.parents[state.i]) if (!known.has(i)) onward.push({ i, fell: false });
      for (const { i, fell } of onward) {
        const key = 2 * i + (fell ? 1 : 0);
        if (seen.has(key)) continue;
        seen.add(key);
        frontier.push({ i, fell, from: state });
      }
    }
    return first;
  }

  function witness(q) {
    const end = q.known.has(q.y) ? undefined : trails(q).get(q.y);
    return end ? back(end) : null;
  }

  function back(state) {
    const path = [];
    for (let at = state; at; at = at.from) path.unshift(at);
    return { path: path.map((s) => s.i), forwards: path.slice(1).map((s) => s.fell) };
  }

  function opener({ g, known }, collider) {
    for (const i of reach([collider], g.children)) if (known.has(i)) return i;
    return collider;
  }

  function written(g, path, forwards) {
    return path.map((i, k) => (k ? (forwards[k - 1] ? " -> " : " <- ") : "") + g.names[i]).join("");
  }

  // A shortest path whatever its arrows, for saying where it is blocked.
  function anyPath(g, x, y) {
    const came = new Map([[x, null]]);
    for (const [i] of came) {
      if (i === y) {
        const path = [];
        for (let at = i; at !== null; at = came.get(at)) path.unshift(at);
        return path;
      }
      for (const j of [...g.parents[i], ...g.children[i]]) if (!came.has(j)) came.set(j, i);
    }
    return [];
  }

  function blocks({ g, known, opened }, path) {
    const forwards = path.slice(1).map((b, k) => g.children[path[k]].includes(b));
    const shown = written(g, path, forwards);
    for (let k = 1; k < path.length - 1; k++) {
      const collides = forwards[k - 1] && !forwards[k];
      const at = `${shown} is blocked at ${g.names[path[k]]}`;
      if (collides && !opened.has(path[k])) return [`${at}, a collider with nothing known below it`];
      if (!collides && known.has(path[k])) return [at];
    }
    return [];
  }

  function reasons(q) {
    const { g, x, y, fixed, known } = q;
    const path = anyPath(g, x, y);
    const shown = [...new Set([...path, x, y])].sort((a, b) => a - b);
    const given = fixed.map((i) => g.names[i]).join(", ");
    const why = (i) =>
      [...reach([i], g.parents)].every((j) => g.maps[j]) ? "a constant" : `determined by ${given}`;
    const found = shown
      .filter((i) => known.has(i) && !fixed.includes(i))
      .map((i) => `${g.names[i]} is ${why(i)}`);
    return [...found, ...(path.length ? blocks(q, path) : ["no path joins them"])];
  }

  // One question with its witness, or with the reasons of independence in words.
  function separation(g, x, y, given) {
    const [i, j] = numbers(g, [x, y]);
    const q = query(g, i, j, numbers(g, given));
    const trail = witness(q);
    if (!trail) return { independent: true, names: [], forwards: [], openBy: {}, reasons: reasons(q) };
    const { path, forwards } = trail;
    const colliders = path.filter((_, k) => k && forwards[k - 1] && forwards[k] === false);
    const openBy = colliders.map((c) => [g.names[c], g.names[opener(q, c)]]);
    const names = path.map((k) => g.names[k]);
    return {
      independent: false, names, forwards, openBy: Object.fromEntries(openBy),
      reasons: [`along ${written(g, path, forwards)}`, ...openBy.map(([c, o]) =>
        c === o ? `${c} is a collider and is known` : `${c} is a collider above ${o}, which is known`)],
    };
  }

  // All variables that are independent of one, which is neither given nor any of them. An input
  // that is asked about is not given, so each input is a question of its own.
  function apart(g, x, given) {
    const [i, zs] = [g.number.get(x), numbers(g, given)];
    const q = query(g, i, i, zs);
    const reached = trails(q);
    const apart_ = (j) => g.inputs.includes(j)
      ? !witness(query(g, i, j, zs)) : q.known.has(j) || !reached.has(j);
    return g.names.filter((_, j) => j !== i && !zs.includes(j) && apart_(j));
  }

  const determined = (g, given) => {
    const known = closure(g, [...numbers(g, given), ...g.inputs]);
    return g.names.filter((_, i) => known.has(i));
  };

  function blanket(g, name) {
    const i = g.number.get(name);
    const mates = g.children[i].flatMap((c) => g.parents[c]).filter((p) => p !== i);
    const listed = (set) => g.names.filter((_, j) => set.includes(j));
    const [parents, children] = [g.parents[i], g.children[i]];
    const others = mates.filter((p) => !parents.includes(p) && !children.includes(p));
    return {
      parents: listed(parents), children: listed(children), mates: listed(others),
      all: listed([...parents, ...children, ...mates]),
    };
  }

  return { graph, separation, apart, determined, blanket };
})();
