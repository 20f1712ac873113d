
// Panels: each keeps what is observed, asked and shown, and paints it after every change.
const SMALLEST = 0.45; // at which a view is still read
const STEP = 1.3;

const all = (root, selector) => [...root.querySelectorAll(selector)];
const make = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
const press = (button, on) => button.setAttribute("aria-pressed", String(on));
const joined = (source, target) => JSON.stringify([source, target]);

function panel(section, data) {
  const g = data.graph && daguerre.graph(data.graph);
  const stage = section.querySelector(".stage");
  const finding = section.querySelector(".finding");
  const factors = all(section, ".factor");
  const views = all(section, ".view").map((element, k) => readView(element, data.holds[k]));
  const state = {
    observed: new Set(data.observed), query: null, other: null, over: null, mode: "observe",
    view: views.length - 1, off: new Set(),
  };
  const view = () => views[state.view];
  const refused = refusal(g);
  const isVariable = (name) => Boolean(g) && g.number.has(name);
  const isInput = (name) => isVariable(name) && g.inputs.includes(g.number.get(name));
  const always = new Set(refused ? [] : daguerre.determined(g, []));
  const given = () => (g ? g.names.filter((n) => state.observed.has(n)) : []);

  const { words, hint } = narrator(g, state, { given, always, isVariable, isInput, refused });
  const { fit, zoom, pan, uncover, scaleOf } = windowOn(
    stage, () => view().size, (box) => view().svg.setAttribute("viewBox", box));

  function readView(element, holds) {
    const svg = element.querySelector("svg");
    const size = [svg.width.baseVal.value, svg.height.baseVal.value];
    const seat = new Map(holds.flatMap(([box, names]) => names.map((n) => [n, box])));
    const boxes = new Map(holds);
    const nodes = new Map(all(svg, "g.node").map((node) => [node.dataset.name, node]));
    const arrows = all(svg, "g.arrow").map((arrow) => ({
      element: arrow, source: arrow.dataset.source, target: arrow.dataset.target,
      kinds: [
        arrow.classList.contains("inference") ? "inference" : "generative",
        arrow.classList.contains("deterministic") ? "deterministic" : "stochastic",
        ...(arrow.classList.contains("adversarial") ? ["adversarial"] : []),
      ],
    }));
    const edges = new Map();
    for (const { element: e, source, target, kinds } of arrows)
      if (kinds[0] === "generative" && kinds.length === 2) edges.set(joined(source, target), e);
    svg.setAttribute("role", "group");
    svg.setAttribute("aria-label", svg.querySelector("title").textContent.slice(0, 200));
    for (const [name, node] of nodes) {
      node.setAttribute("tabindex", "0");
      node.setAttribute("role", "button");
      node.querySelector("title").remove();
      node.classList.toggle("opens", boxes.has(name));
    }
    return { element, svg, size, nodes, arrows, edges, boxes, seat, ready: false };
  }

  // Boxes can only be measured once a view is shown.
  function prepare(shown) {
    const { svg, nodes, ready } = shown;
    if (ready) return;
    shown.ready = true;
    for (const node of nodes.values()) node.prepend(hit(node, 5));
    for (const scope of all(svg, "g.scope")) {
      const button = hit(scope.querySelector(".label"), 5);
      button.setAttribute("tabindex", "0");
      button.setAttribute("role", "button");
      button.setAttribute("aria-label", `Close the module ${brief(scope.dataset.name)}`);
      scope.insertBefore(button, scope.querySelector(".label"));
    }
  }

  function hit(around, margin) {
    const box = around.getBBox();
    const moved = around.transform.baseVal.consolidate()?.matrix;
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const sides = { x: box.x + (moved?.e ?? 0) - margin, y: box.y + (moved?.f ?? 0) - margin,
      width: box.width + 2 * margin, height: box.height + 2 * margin, rx: 8, class: "hit" };
    for (const [key, value] of Object.entries(sides)) rect.setAttribute(key, value);
    return rect;
  }

  // What is to be seen
  function paint() {
    const known = new Set(refused ? [] : daguerre.determined(g, given()));
    const over = state.over ?? state.other;
    const asks = state.query !== null && !refused;
    const apart = new Set(asks ? daguerre.apart(g, state.query, given()) : []);
    const answer = asks && isVariable(over) && over !== state.query && !state.observed.has(over)
      ? daguerre.separation(g, state.query, over, given()) : null;
    const lit = !asks && !refused && isVariable(over) ? daguerre.blanket(g, over) : null;
    let determines = false;
    for (const [name, node] of view().nodes) {
      const names = view().boxes.get(name) ?? [name];
      const every = (set) => names.every((n) => set.has(n));
      const half = !state.observed.has(name) && !every(always) && every(known);
      determines ||= half;
      const marks = {
        over: Boolean(lit) && names.includes(over),
        observed: every(state.observed), determined: half,
        apart: asks && every(apart) && !names.includes(over),
        query: names.includes(state.query), end: asks && names.includes(over),
        "on-trail": Boolean(answer) && names.some((n) => answer.names.includes(n)),
        opener: Boolean(answer) && names.some((n) => Object.values(answer.openBy).includes(n)),
        faint: Boolean(lit) && !names.some((n) => n === over || lit.all.includes(n)),
      };
      for (const [mark, on] of Object.entries(marks)) node.classList.toggle(mark, on);
      describe(node, name, marks);
    }
    paintArrows(answer, lit, over);
    section.classList.toggle("determines", determines);
    for (const factor of factors) factor.classList.toggle("lit", factor.dataset.name === over);
    say(words({ asks, apart, answer, lit, over, known, inside: view().boxes.get(over) }));
  }

  function describe(node, name, { observed, determined, apart, query }) {
    const inside = view().boxes.get(name);
    if (inside) node.setAttribute("aria-expanded", "false");
    else node.setAttribute("aria-pressed", String(observed));
    const facts = [inside && `a module of ${inside.length} variables`, observed && "observed", determined && "determined", query && "asked about", apart && "independent"];
    node.setAttribute("aria-label", [brief(name), ...facts.filter(Boolean)].join(", "));
  }

  function paintArrows(answer, lit, over) {
    const { arrows, edges, seat } = view();
    const at = (name) => seat.get(name) ?? name;
    const steps = answer ? answer.forwards.map((forward, k) => {
      const pair = [at(answer.names[k]), at(answer.names[k + 1])];
      return edges.get(joined(...(forward ? pair : pair.reverse())));
    }) : [];
    const pale = (name) => view().nodes.get(name)?.classList.contains("apart");
    const heads = lit && new Set([over, ...lit.children].map(at));
    const near = lit && new Set([over, ...lit.all].map(at));
    for (const { element, source, target, kinds } of arrows) {
      const inside = lit && edges.get(joined(source, target)) === element &&
        heads.has(target) && near.has(source);
      element.classList.toggle("on-trail", steps.includes(element));
      element.classList.toggle("faint", Boolean(lit ? !inside : pale(source) || pale(target)));
      element.classList.toggle("off", kinds.some((kind) => state.off.has(kind)));
    }
  }

  let said = "";
  function say(lines) {
    if (lines.join("\n") === said) return;
    said = lines.join("\n");
    finding.replaceChildren(...lines.map((line) => make("p", line)));
    if (lines.at(-1) === hint()) finding.lastChild.className = "hint";
  }

  // What a reader does
  function choose(name, ask) {
    const inside = view().boxes.get(name);
    if (inside) return show(state.view + 1, inside[0]);
    if (refused || !isVariable(name)) return hover(name);
    if (ask) inquire(name);
    else if (isInput(name)) return say([brief(name), "An input is always given; ask about it instead."]);
    else observe(name);
    paint();
  }

  function inquire(name) {
    if (state.observed.has(name)) return;
    if (state.query === name) [state.query, state.other] = [state.other, null];
    else if (state.query === null) state.query = name;
    else state.other = state.other === name ? null : name;
  }

  function observe(name) {
    if (!state.observed.delete(name)) state.observed.add(name);
    if (state.observed.has(name) && state.other === name) state.other = null;
    if (state.observed.has(name) && state.query === name) [state.query, state.other] = [state.other, null];
  }

  function hover(name) {
    if (state.over === name) return;
    state.over = name;
    paint();
  }

  function forget() {
    Object.assign(state, { query: null, other: null });
    paint();
  }

  function setMode(mode) {
    state.mode = mode;
    all(section, "[data-mode]").forEach((b) => press(b, b.dataset.mode === mode));
    paint();
  }

  function show(k, name) {
    state.view = Math.max(0, Math.min(views.length - 1, k));
    state.over = null;
    views.forEach(({ element }, i) => (element.hidden = i !== state.view));
    all(section, "[data-view]").forEach((b) => press(b, Number(b.dataset.view) === state.view));
    prepare(view());
    fit();
    paint();
    if (name) (view().nodes.get(name) ?? view().nodes.get(view().seat.get(name)))?.focus();
  }

  // The nearest depth at which a module is closed
  function close(name) {
    const last = views.findLastIndex(({ boxes }, k) => k < state.view && boxes.has(name));
    show(last < 0 ? state.view - 1 : last, name);
  }

  function save() {
    const copy = view().svg.cloneNode(true);
    all(copy, ".hit, .off").forEach((e) => e.remove());
    copy.setAttribute("viewBox", `0 0 ${view().size.join(" ")}`);
    copy.setAttribute("role", "img");
    for (const node of all(copy, "g.node")) {
      const shown = node.classList.contains("observed") ? "#d9dde3" : "#ffffff";
      all(node, "circle, rect, path").forEach((shape) => shape.setAttribute("fill", shown));
      ["role", "tabindex", "aria-label", "aria-pressed", "aria-expanded"].forEach((key) => node.removeAttribute(key));
    }
    const marks = ["over", "determined", "apart", "query", "end", "on-trail", "opener", "faint", "opens", "off"];
    all(copy, "g").forEach((e) => e.classList.remove(...marks));
    for (let use; (use = copy.querySelector("use")); ) use.replaceWith(drawn(use));
    const text = new XMLSerializer().serializeToString(copy);
    const link = make("a", "");
    link.href = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
    link.download = `${data.title.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40).replace(/^-|-$/g, "") || "figure"}.svg`;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  // What is used itself, a letter or a word of letters, so that a saved picture needs no reference.
  function drawn(use) {
    const outline = document.querySelector(use.getAttribute("href")).cloneNode(true);
    outline.removeAttribute("id");
    const [x, y] = ["x", "y"].map((key) => use.getAttribute(key) ?? 0);
    outline.setAttribute("transform", `translate(${x} ${y})`);
    return outline;
  }

  const actions = {
    in: () => zoom(STEP), out: () => zoom(1 / STEP), fit, save,
    help: () => document.getElementById("help").showModal(),
    reset: () => {
      state.observed = new Set(data.observed);
      forget();
      fit();
    },
  };

  section.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    const { do: act, mode, view: k, kind } = button.dataset;
    if (act) actions[act]();
    if (mode) setMode(mode);
    if (k) show(Number(k));
    if (kind) {
      if (!state.off.delete(kind)) state.off.add(kind);
      press(button, !state.off.has(kind));
      paint();
    }
  });

  const keys = {
    "+": actions.in, "=": actions.in, "-": actions.out, 0: fit,
    ArrowLeft: () => pan(40, 0), ArrowRight: () => pan(-40, 0),
    ArrowUp: () => pan(0, 40), ArrowDown: () => pan(0, -40),
    o: () => setMode("observe"), a: () => setMode("ask"), Escape: forget,
  };
  section.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const node = event.target.closest("g.node");
    const scope = event.target.closest(".scope > .hit");
    const enter = event.key === "Enter" || event.key === " ";
    if (enter && node) choose(node.dataset.name, state.mode === "ask" || event.shiftKey);
    else if (enter && scope) close(scope.parentNode.dataset.name);
    else if (Object.hasOwn(keys, event.key)) keys[event.key]();
    else return;
    event.preventDefault();
  });

  // Pointers: one drags, two pinch; what moved is no click
  const pointers = new Map();
  let moved = 0;
  const place = (event) => {
    const { left, top } = stage.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  const span = ([[a, b], [c, d]]) => ({ x: (a + c) / 2, y: (b + d) / 2, apart: Math.hypot(a - c, b - d) });
  stage.addEventListener("pointerdown", (event) => {
    if (!pointers.size) moved = 0;
    pointers.set(event.pointerId, place(event));
  });
  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const was = [...pointers.values()];
    const now = place(event);
    moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (moved < 5) return;
    stage.setPointerCapture(event.pointerId);
    stage.classList.add("dragged");
    pointers.set(event.pointerId, now);
    if (was.length === 2) {
      const [from, to] = [span(was), span([...pointers.values()])];
      pan(to.x - from.x, to.y - from.y);
      zoom(to.apart / Math.max(1, from.apart), to.x, to.y);
    } else pan(now[0] - before[0], now[1] - before[1]);
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, ({ pointerId }) => {
    pointers.delete(pointerId);
    if (!pointers.size) stage.classList.remove("dragged");
  });
  stage.addEventListener("pointerleave", () => hover(null));
  stage.addEventListener("click", (event) => {
    if (moved >= 5) return;
    const node = event.target.closest("g.node");
    if (event.pointerType === "touch") state.over = node?.dataset.name ?? null; // a finger points as it taps
    if (node) choose(node.dataset.name, state.mode === "ask" || event.shiftKey);
    else if (event.target.matches(".scope > .hit")) close(event.target.parentNode.dataset.name);
    else forget();
  });
  stage.addEventListener("wheel", (event) => {
    const factor = Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015));
    if (factor < 1 && !stage.classList.contains("zoomed")) return; // the page scrolls
    event.preventDefault();
    zoom(factor, ...place(event));
  }, { passive: false });
  stage.addEventListener("pointerover", (event) => {
    if (event.pointerType !== "touch") hover(event.target.closest("g.node")?.dataset.name ?? null);
  });
  stage.addEventListener("focusin", (event) => {
    const node = event.target.closest("g.node");
    if (!node?.matches(":focus-visible")) return;
    uncover(node);
    hover(node.dataset.name);
  });
  stage.addEventListener("focusout", () => hover(null));
  for (const factor of factors) {
    factor.addEventListener("pointerenter", () => hover(factor.dataset.name));
    factor.addEventListener("pointerleave", () => hover(null));
  }
  new ResizeObserver(() => stage.clientWidth !== wide && ((wide = stage.clientWidth), fit())).observe(stage);
  let wide = stage.clientWidth;
  while (state.view && scaleOf(views[state.view].size) < SMALLEST) state.view--;
  show(state.view);
}

{
  const data = JSON.parse(document.getElementById("data").textContent);
  all(document, "section.panel").forEach((section, i) => panel(section, data[i]));
  document.addEventListener("keydown", (event) => {
    if (event.key === "?" && !document.querySelector("dialog[open]")) document.getElementById("help").showModal();
  });
}
