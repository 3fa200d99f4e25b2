// The explorer: reads the scores q kᵀ, computes attention from them as nystrom_np/definition.py does, and draws it.
(() => {
  "use strict";
  const root = document.getElementById("explorer");
  const { told, numbers } = window.exploration;
  const bytes = Uint8Array.from(atob(numbers), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const MASKINGS = { transformers: "as transformers", original: "as the authors", invariant: "not there" };
  const EXACT = 11; // the last place of the slider of steps
  const GUESSES = 5;
  const find = (selector) => root.querySelector(selector);
  const output = (name) => find(`[data-of="${name}"]`);

  // --- numbers ---------------------------------------------------------------------------------------------------

  function half(offset) { // a float16
    const bits = view.getUint16(offset, true), exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent ? (exponent === 31 ? Infinity : 2 ** (exponent - 15) * (1 + fraction / 1024)) : fraction * 2 ** -24;
    return bits & 0x8000 ? -size : size;
  }

  const matrix = (rows, columns) => ({ rows, columns, values: new Float64Array(rows * columns) });

  const scoresOf = remember((text, masking, layer, head) => {
    const mode = told.texts[text].modes.find((one) => one.masking === masking), n = mode.length;
    const start = mode.scores + 2 * n * n * (layer * told.heads + head), found = matrix(n, n);
    for (let i = 0; i < n * n; i++) found.values[i] = half(start + 2 * i);
    return found;
  });

  function remember(compute) { // each set of arguments is computed once
    const known = new Map();
    return (...given) => {
      const key = given.join();
      if (!known.has(key)) {
        if (known.size > 200) known.clear();
        known.set(key, compute(...given));
      }
      return known.get(key);
    };
  }

  // --- mathematics: the names are those of nystrom_np/definition.py ------------------------------------------------

  function product(a, b) {
    const found = matrix(a.rows, b.columns);
    for (let i = 0; i < a.rows; i++) for (let k = 0; k < a.columns; k++) {
      const factor = a.values[i * a.columns + k];
      for (let j = 0; j < b.columns; j++) found.values[i * b.columns + j] += factor * b.values[k * b.columns + j];
    }
    return found;
  }

  function transposed(a) {
    const found = matrix(a.columns, a.rows);
    for (let i = 0; i < a.rows; i++) for (let j = 0; j < a.columns; j++) found.values[j * a.rows + i] = a.values[i * a.columns + j];
    return found;
  }

  function softmax(scores, real = scores.columns) { // over the first columns; those of padding weigh nothing
    const found = matrix(scores.rows, scores.columns), n = scores.columns;
    for (let i = 0; i < scores.rows; i++) {
      let largest = -Infinity, sum = 0;
      for (let j = 0; j < real; j++) largest = Math.max(largest, scores.values[i * n + j]);
      for (let j = 0; j < real; j++) sum += found.values[i * n + j] = Math.exp(scores.values[i * n + j] - largest);
      for (let j = 0; j < real; j++) found.values[i * n + j] /= sum;
    }
    return found;
  }

  function segments(length, m) { // where each begins, and where the last one ends; the shorter come first
    const size = Math.floor(length / m), shorter = m - (length % m), starts = [0];
    for (let i = 0; i < m; i++) starts.push(starts[i] + size + (i >= shorter));
    return starts;
  }

  function rowMeans(a, m) { // means over segments of rows
    const starts = segments(a.rows, m), found = matrix(m, a.columns);
    for (let s = 0; s < m; s++) for (let i = starts[s]; i < starts[s + 1]; i++) for (let j = 0; j < a.columns; j++) {
      found.values[s * a.columns + j] += a.values[i * a.columns + j] / (starts[s + 1] - starts[s]);
    }
    return found;
  }

  // A landmark is a mean of queries or keys, so its scores are means of scores.
  const kernels = remember((text, masking, layer, head, m) => {
    const scores = scoresOf(text, masking, layer, head), toLandmarks = transposed(rowMeans(transposed(scores), m));
    const f = softmax(toLandmarks), a = softmax(rowMeans(toLandmarks, m));
    return { f, a, b: softmax(rowMeans(scores, m), realOf(text, masking)) };
  });

  function largestColumn(a) {
    const sums = new Float64Array(a.columns);
    for (let i = 0; i < a.rows; i++) for (let j = 0; j < a.columns; j++) sums[j] += a.values[i * a.columns + j];
    return Math.max(...sums);
  }

  function firstGuess(text, masking, layer, head, m) {
    const { a } = kernels(text, masking, layer, head, m);
    let largest = largestColumn(a);
    if (told.initial !== "matrix") for (let h = 0; h < told.heads; h++) {
      largest = Math.max(largest, largestColumn(kernels(text, masking, layer, h, m).a));
    }
    const z = transposed(a);
    z.values.forEach((value, i) => { z.values[i] = value / largest; });
    return z;
  }

  function nextGuess(a, z) { // z (13 − az (15 − az (7 − az))) / 4
    const n = a.rows, az = product(a, z);
    const less = (number, b) => { // number · 1 − b
      const found = matrix(n, n);
      for (let i = 0; i < n * n; i++) found.values[i] = -b.values[i];
      for (let i = 0; i < n; i++) found.values[i * n + i] += number;
      return found;
    };
    const next = product(z, less(13, product(az, less(15, product(az, less(7, az))))));
    for (let i = 0; i < n * n; i++) next.values[i] /= 4;
    return next;
  }

  function exactInverse(a) { // by singular values (Jacobi's method); those that are nothing in float32 are left out
    const n = a.rows, u = transposed(a), v = matrix(n, n); // rows of u: columns of a; u becomes (U Σ)ᵀ, v becomes Vᵀ
    for (let i = 0; i < n; i++) v.values[i * n + i] = 1;
    const dot = (x, p, q) => { let sum = 0; for (let k = 0; k < n; k++) sum += x[p * n + k] * x[q * n + k]; return sum; };
    const turn = (x, p, q, c, s) => {
      for (let k = 0; k < n; k++) {
        const one = x[p * n + k], two = x[q * n + k];
        x[p * n + k] = c * one - s * two;
        x[q * n + k] = s * one + c * two;
      }
    };
    for (let sweep = 0, turned = true; turned && sweep < 60; sweep++) {
      turned = false;
      for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) {
        const pp = dot(u.values, p, p), qq = dot(u.values, q, q), pq = dot(u.values, p, q);
        if (Math.abs(pq) <= 1e-15 * Math.sqrt(pp * qq) || pq === 0) continue;
        turned = true;
        const zeta = (qq - pp) / (2 * pq), t = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
        const c = 1 / Math.hypot(1, t);
        turn(u.values, p, q, c, c * t);
        turn(v.values, p, q, c, c * t);
      }
    }
    const squares = Array.from({ length: n }, (_, p) => dot(u.values, p, p));
    const least = (n * 2 ** -23) ** 2 * Math.max(...squares);
    for (let p = 0; p < n; p++) for (let k = 0; k < n; k++) u.values[p * n + k] *= squares[p] > least ? 1 / squares[p] : 0;
    return product(transposed(v), u);
  }

  const inverse = remember((text, masking, layer, head, m, steps) => {
    const { a } = kernels(text, masking, layer, head, m);
    if (steps === EXACT) return exactInverse(a);
    return steps ? nextGuess(a, inverse(text, masking, layer, head, m, steps - 1)) : firstGuess(text, masking, layer, head, m);
  });

  const exactOf = remember((text, masking, layer, head) => softmax(scoresOf(text, masking, layer, head), realOf(text, masking)));

  const near = remember((text, masking, layer, head, m, steps) => {
    const { f, b } = kernels(text, masking, layer, head, m);
    return product(product(f, inverse(text, masking, layer, head, m, steps)), b);
  });

  function errorOf(...setting) { // in the Frobenius norm, relative to the exact weights
    const exact = exactOf(...setting.slice(0, 4)), found = near(...setting);
    let above = 0, below = 0;
    exact.values.forEach((value, i) => { above += (found.values[i] - value) ** 2; below += value ** 2; });
    return Math.sqrt(above / below);
  }

  const errorAt = remember(errorOf);

  function realOf(text, masking) {
    return masking === "invariant" ? told.texts[text].modes.find((one) => one.masking === masking).length : told.texts[text].real;
  }

  function guessesOf(text, masking, m, steps) { // m = null: exact attention
    const { guesses, length } = told.texts[text].modes.find((one) => one.masking === masking);
    const place = m === null || m >= length ? 0 : 1 + (m - 2) * (EXACT + 1) + steps;
    return Array.from({ length: GUESSES }, (_, i) => {
      const offset = guesses + 4 * (place * GUESSES + i);
      return { word: told.words[view.getUint16(offset, true)], share: half(offset + 2) };
    });
  }

  // --- settings, which the address holds -------------------------------------------------------------------------

  const wanted = {}; // as chosen; what a text cannot have is replaced in `now`
  let hovered = null, cell = null;

  function initial() {
    Object.assign(wanted, { text: 0, layer: 0, head: 0, view: "nystrom", m: told.landmarks, masking: null, token: null,
      steps: told.steps === null ? EXACT : Math.min(told.steps, EXACT - 1) });
  }

  function readAddress() {
    initial();
    const given = new URLSearchParams(location.hash.slice(1)), whole = (name) => Number.parseInt(given.get(name), 10);
    const within = (value, low, high) => Number.isInteger(value) && value >= low && value <= high;
    if (within(whole("text"), 1, told.texts.length)) wanted.text = whole("text") - 1;
    if (within(whole("layer"), 1, told.layers)) wanted.layer = whole("layer") - 1;
    if (within(whole("head"), 1, told.heads)) wanted.head = whole("head") - 1;
    if (["exact", "nystrom", "difference"].includes(given.get("view"))) wanted.view = given.get("view");
    if (within(whole("m"), 2, 1000)) wanted.m = whole("m");
    if (given.get("steps") === "exact") wanted.steps = EXACT;
    else if (within(whole("steps"), 0, EXACT - 1)) wanted.steps = whole("steps");
    if (Object.hasOwn(MASKINGS, given.get("masking"))) wanted.masking = given.get("masking");
    if (within(whole("token"), 0, 1000)) wanted.token = whole("token");
  }

  function now() {
    const text = told.texts[wanted.text], masked = text.masked ?? 0;
    const mode = text.modes.find((one) => one.masking === wanted.masking) ?? text.modes[0];
    const token = wanted.token === null ? masked : wanted.token;
    return { ...wanted, masking: mode.masking, length: mode.length, real: realOf(wanted.text, mode.masking),
      m: Math.max(Math.min(wanted.m, mode.length), Math.min(2, mode.length)), token: Math.min(token, mode.length - 1) };
  }

  function address() {
    const at = now();
    const parts = { text: at.text + 1, layer: at.layer + 1, head: at.head + 1, view: at.view, m: at.m,
      steps: at.steps === EXACT ? "exact" : at.steps, masking: at.masking, token: at.token };
    return `#${new URLSearchParams(parts)}`;
  }

  // --- words ------------------------------------------------------------------------------------------------------

  const shown = (value) => { // four digits, and no more noughts than one can read
    if (value === 0) return "0";
    return Math.abs(value) >= 1e-4 && Math.abs(value) < 1e5 ? String(Number(value.toPrecision(4))) : value.toExponential(3);
  };
  const percent = (value) => `${Number((100 * value).toPrecision(3))} %`;
  const label = (token) => token.replace(/^▁(?=.)/, "");
  const named = (i) => `${label(told.texts[wanted.text].tokens[i])} (${i})`;
  const stepsInWords = (steps) => (steps === EXACT ? "exact" : `${steps} ${steps === 1 ? "step" : "steps"}`);
  const spanOf = (starts, a) => (starts[a + 1] - starts[a] === 1 ? `token ${starts[a]}` : `tokens ${starts[a]} to ${starts[a + 1] - 1}`);

  function element(name, attributes = {}, ...children) {
    const svg = ["svg", "rect", "path", "line", "circle", "text", "g"].includes(name);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  // --- pictures ---------------------------------------------------------------------------------------------------

  const colour = (name) => getComputedStyle(root).getPropertyValue(`--x-${name}`).trim();
  const rgb = (hex) => {
    const whole = hex.length === 4 ? [...hex.slice(1)].map((digit) => digit + digit).join("") : hex.slice(1);
    return [0, 2, 4].map((i) => Number.parseInt(whole.slice(i, i + 2), 16));
  };

  function shade(value, top) { // from the paper to blue above zero, to orange below
    const paper = rgb(colour("paper")), ink = rgb(colour(value < 0 ? "near" : "exact"));
    const part = Math.min(1, Math.abs(value) / top) ** 0.6;
    return paper.map((low, i) => Math.round(low + (ink[i] - low) * part));
  }

  function paint(canvas, a, top) {
    canvas.width = a.columns;
    canvas.height = a.rows;
    const context = canvas.getContext("2d"), image = context.createImageData(a.columns, a.rows);
    const inks = { paper: rgb(colour("paper")), above: rgb(colour("exact")), below: rgb(colour("near")) };
    a.values.forEach((value, i) => {
      const ink = value < 0 ? inks.below : inks.above, part = Math.min(1, Math.abs(value) / top) ** 0.6;
      for (let k = 0; k < 3; k++) image.data[4 * i + k] = inks.paper[k] + (ink[k] - inks.paper[k]) * part;
      image.data[4 * i + 3] = 255;
    });
    context.putImageData(image, 0, 0);
  }

  function largeMatrix(at) {
    const exact = exactOf(at.text, at.masking, at.layer, at.head), found = near(at.text, at.masking, at.layer, at.head, at.m, at.steps);
    if (at.view === "exact") return exact;
    if (at.view === "nystrom") return found;
    const difference = matrix(exact.rows, exact.columns);
    exact.values.forEach((value, i) => { difference.values[i] = found.values[i] - value; });
    return difference;
  }

  const TITLES = { exact: "S, exact", nystrom: "F A⁺ B", difference: "F A⁺ B − S" };

  function boards(at) {
    const { f, a, b } = kernels(at.text, at.masking, at.layer, at.head, at.m);
    const plus = inverse(at.text, at.masking, at.layer, at.head, at.m, at.steps);
    return { S: { title: TITLES[at.view], a: largeMatrix(at), rows: "token", columns: "token" },
      F: { title: "F", a: f, rows: "token", columns: "landmark" },
      B: { title: "B", a: b, rows: "landmark", columns: "token" },
      P: { title: "A⁺", a: plus, rows: "landmark", columns: "landmark" },
      A: { title: "A", a, rows: "landmark", columns: "landmark" } };
  }

  function makeBoards() {
    for (const name of ["S", "F", "B", "P", "A"]) {
      const board = element("div", { class: "x-board", tabindex: 0, role: "application", "data-board": name },
        element("canvas", { "aria-hidden": "true" }), element("svg", { "aria-hidden": "true", preserveAspectRatio: "none" }));
      find(".x-matrices").append(element("div", { class: "x-matrix", style: `grid-area: ${name}` }, element("h3"), board));
      board.addEventListener("pointermove", (event) => {
        const box = board.getBoundingClientRect(), { a } = boards(now())[name];
        const place = (position, size, count) => Math.max(0, Math.min(count - 1, Math.floor(position / size * count)));
        choose(name, place(event.clientY - box.top, box.height, a.rows), place(event.clientX - box.left, box.width, a.columns));
      });
      board.addEventListener("click", () => { if (cell && "SF".includes(name)) set({ token: cell.row }); });
      board.addEventListener("focus", () => { if (cell?.board !== name) choose(name, "SF".includes(name) ? now().token : 0, 0); });
      board.addEventListener("keydown", (event) => {
        const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
        if (event.key === "Enter" && cell && "SF".includes(name)) set({ token: cell.row });
        if (!step) return;
        event.preventDefault();
        const { a } = boards(now())[name], from = cell?.board === name ? cell : { row: 0, column: 0 };
        const clamp = (value, count) => Math.max(0, Math.min(count - 1, value));
        choose(name, clamp(from.row + step[0], a.rows), clamp(from.column + step[1], a.columns));
      });
      const tables = element("details", { "data-table": name }, element("summary"),
        element("div", { class: "x-scroll", tabindex: 0, role: "region", "aria-label": `${name} as a table` }));
      tables.addEventListener("toggle", () => fillTable(tables));
      find(".x-tables").append(tables);
    }
  }

  function choose(board, row, column) {
    cell = { board, row, column };
    drawCell(now());
  }

  function drawBoards(at) {
    const all = boards(at), m = at.m, wide = Math.max(m / at.length, 0.22);
    const grid = find(".x-matrices");
    grid.style.gridTemplateAreas = '"S F" "B P" ". A"';
    grid.style.gridTemplateColumns = `minmax(0, 1fr) minmax(0, ${wide}fr)`;
    const exact = exactOf(at.text, at.masking, at.layer, at.head).values;
    const top = Float64Array.from(exact).sort()[Math.floor(0.995 * (exact.length - 1))] || 1;
    for (const [name, { title, a, rows, columns }] of Object.entries(all)) {
      const board = find(`[data-board="${name}"]`), own = a.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
      board.parentElement.firstChild.replaceChildren(title, element("span", { class: "x-size" }, ` · ${a.rows} × ${a.columns}`));
      board.setAttribute("aria-label", `${title}: ${a.rows} ${rows}s by ${a.columns} ${columns}s. Arrow keys go from cell to cell.`);
      board.style.aspectRatio = "SPA".includes(name) ? "1" : ""; // the others are as high and wide as these beside them
      paint(board.querySelector("canvas"), a, name === "S" && at.view !== "difference" ? top : own);
      const details = find(`details[data-table="${name}"]`);
      details.firstChild.textContent = `${title} as a table`;
      if (details.open) fillTable(details);
    }
    output("product").textContent = `Blue is above zero, orange below; a full colour is ${shown(top)} or more in S and F A⁺ B, the largest number in each other matrix. `
      + `Rows of S and F are tokens that look, columns of S and B tokens looked at. A landmark is ${at.length % m ? `${Math.floor(at.length / m)} or ${Math.floor(at.length / m) + 1}` : at.length / m} neighbouring tokens.`;
  }

  function drawCell(at) {
    const all = boards(at);
    for (const [name, { a }] of Object.entries(all)) {
      const svg = find(`[data-board="${name}"] svg`);
      svg.setAttribute("viewBox", `0 0 ${a.columns} ${a.rows}`);
      svg.replaceChildren();
      const mark = (x, y, width, height) => svg.append(element("rect", { x, y, width, height, fill: "none",
        stroke: colour("mark"), "stroke-width": 1.5, "vector-effect": "non-scaling-stroke" }));
      if ("SF".includes(name)) mark(0, at.token, a.columns, 1);
      if (!cell) continue;
      if (cell.board === name) mark(cell.column, cell.row, 1, 1);
      else if (cell.board === "S" && name === "F") mark(0, cell.row, a.columns, 1);
      else if (cell.board === "S" && name === "B") mark(cell.column, 0, 1, a.rows);
    }
    if (cell) {
      const { a } = all[cell.board];
      cell.row = Math.min(cell.row, a.rows - 1);
      cell.column = Math.min(cell.column, a.columns - 1);
    }
    output("cell").textContent = cell ? cellInWords(at, all) : "Point at a cell, or go to a matrix with the tab key and to its cells with the arrow keys: its number is said here.";
  }

  function cellInWords(at, all) {
    const { board, row, column } = cell, starts = segments(at.length, at.m), { a, title } = all[board];
    const landmark = (i) => `landmark ${i} (${spanOf(starts, i)})`;
    const value = shown(a.values[row * a.columns + column]);
    if (board === "S") {
      const i = row * at.length + column, exact = exactOf(at.text, at.masking, at.layer, at.head).values[i];
      const found = near(at.text, at.masking, at.layer, at.head, at.m, at.steps).values[i];
      return `From ${named(row)} to ${named(column)}: exact ${shown(exact)}, Nyström ${shown(found)}, difference ${shown(found - exact)}. `
        + `Nyström's number is row ${row} of F times A⁺ times column ${column} of B.`;
    }
    if (board === "F") return `F, from ${named(row)} to ${landmark(column)}: ${value}`;
    if (board === "B") return `B, from ${landmark(row)} to ${named(column)}: ${value}`;
    return `${title}, from ${landmark(row)} to ${landmark(column)}: ${value}`;
  }

  function fillTable(details) {
    const place = details.lastChild;
    if (!details.open) return place.replaceChildren();
    const at = now(), { a, rows, columns, title } = boards(at)[details.dataset.table];
    const name = (kind, i) => (kind === "token" ? named(i) : `landmark ${i}`);
    const head = element("tr", {}, element("td"), ...Array.from({ length: a.columns }, (_, j) => element("th", { scope: "col" }, name(columns, j))));
    const lines = Array.from({ length: a.rows }, (_, i) => element("tr", {}, element("th", { scope: "row" }, name(rows, i)),
      ...Array.from({ length: a.columns }, (_, j) => element("td", {}, shown(a.values[i * a.columns + j])))));
    return place.replaceChildren(element("table", {}, element("caption", {}, title), element("thead", {}, head), element("tbody", {}, ...lines)));
  }

  function drawTokens(at) {
    const list = find(".x-tokens"), starts = segments(at.length, at.m), tokens = told.texts[at.text].tokens;
    const had = list.contains(document.activeElement);
    list.replaceChildren(...Array.from({ length: at.m }, (_, s) => {
      const group = element("span", { class: "x-segment", role: "group", "aria-label": `segment ${s}` });
      for (let i = starts[s]; i < starts[s + 1]; i++) {
        group.append(element("span", { class: `x-token${i >= at.real ? " x-padding" : ""}`, role: "option", id: `x-token-${i}`,
          tabindex: i === at.token ? 0 : -1, "aria-selected": i === at.token, "data-token": i }, label(tokens[i])));
      }
      return group;
    }));
    if (had) find(`#x-token-${at.token}`).focus();
    output("tokens").textContent = `Choose a token. Where it looks is blue, the more the deeper${at.view === "exact" ? "" : "; what is below zero is orange"}. `
      + `The lines under the text are the ${at.m} segments whose means are the landmarks.`;
  }

  function drawWeights(at) {
    const token = hovered ?? at.token, n = at.length;
    const rowOf = (a) => a.values.slice(token * n, (token + 1) * n);
    const exact = rowOf(exactOf(at.text, at.masking, at.layer, at.head)), found = rowOf(near(at.text, at.masking, at.layer, at.head, at.m, at.steps));
    const painted = rowOf(largeMatrix(at)), top = painted.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
    painted.forEach((value, i) => {
      const ink = shade(value, top), [red, green, blue] = ink.map((part) => (part / 255) ** 2.2);
      const dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.18; // where white and black are read equally well
      const style = find(`#x-token-${i}`).style;
      style.background = `rgb(${ink})`;
      style.color = dark ? "#fff" : "#000";
    });
    drawProfile(at, token, exact, found);
    const order = Array.from(exact.keys()).sort((i, j) => Math.max(exact[j], Math.abs(found[j])) - Math.max(exact[i], Math.abs(found[i]))).slice(0, 8);
    const most = Math.max(...order.map((i) => Math.max(exact[i], Math.abs(found[i]))));
    const bar = (value, kind) => element("span", { class: `x-bar ${kind}`, style: `width: ${(4 * Math.abs(value) / most).toFixed(2)}rem` });
    find(".x-largest").replaceChildren(
      element("caption", {}, `Where ${named(token)} looks most`),
      element("thead", {}, element("tr", {}, ...["token", "exact", "Nyström"].map((word) => element("th", { scope: "col" }, word)))),
      element("tbody", {}, ...order.map((i) => element("tr", { "data-key": i }, element("th", { scope: "row" }, named(i)),
        element("td", {}, shown(exact[i]), bar(exact[i], "")), element("td", {}, shown(found[i]), bar(found[i], "x-near"))))));
    const all = find('details[data-table="profile"]');
    all.lastChild.replaceChildren(...(all.open ? [element("table", {}, element("caption", {}, `From ${named(token)} to`),
      element("thead", {}, element("tr", {}, ...["token", "exact", "Nyström"].map((word) => element("th", { scope: "col" }, word)))),
      element("tbody", {}, ...Array.from(exact.keys(), (i) => element("tr", {}, element("th", { scope: "row" }, named(i)),
        element("td", {}, shown(exact[i])), element("td", {}, shown(found[i]))))))] : []));
  }

  function drawProfile(at, token, exact, found) {
    const width = 640, height = 150, n = at.length, high = Math.max(...exact, ...found, 1e-9), low = Math.min(0, ...found);
    const y = (value) => 8 + (height - 16) * (high - value) / (high - low), step = width / n;
    const svg = element("svg", { viewBox: `0 0 ${width} ${height + 6}`, role: "img", "aria-label":
      `Bars: the weights that ${named(token)} gives to each of ${n} tokens, exact and Nyström. The tables below have the numbers.` });
    for (let j = 0; j < n; j++) {
      const bar = (value, left, name) => svg.append(element("rect", { x: (j * step + left).toFixed(2), width: (step * 0.42).toFixed(2),
        y: Math.min(y(value), y(0)).toFixed(2), height: Math.abs(y(value) - y(0)).toFixed(2), fill: colour(name) }));
      bar(exact[j], step * 0.06, "exact");
      bar(found[j], step * 0.5, "near");
    }
    svg.append(element("line", { x1: 0, x2: width, y1: y(0), y2: y(0), stroke: colour("soft"), "stroke-width": 1 }));
    find(".x-profile").replaceChildren(svg);
    output("profile").textContent = `From ${named(token)} to each token in turn: exact in blue, Nyström in orange. The highest bar is ${shown(high)}.`;
  }

  function drawLine(place, points, current, ticks, act) {
    const width = 360, height = 210, left = 46, bottom = 30;
    const floor = 1e-4, logs = points.map(([, value]) => Math.log10(Math.max(value, floor)));
    const low = Math.floor(Math.min(...logs, -1)), high = Math.ceil(Math.max(...logs, 0));
    const first = points[0][0], last = points[points.length - 1][0];
    const x = (value) => left + (width - left - 8) * (last === first ? 0.5 : (value - first) / (last - first));
    const y = (value) => 8 + (height - bottom - 8) * (high - Math.log10(Math.max(value, floor))) / (high - low);
    const at = points.find(([value]) => value === current);
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label":
      `${place.dataset.title}: ${points.length} points${at ? `; now ${percent(at[1])}` : ""}. The table below has the numbers.` });
    for (let power = low; power <= high; power++) {
      svg.append(element("line", { x1: left, x2: width - 8, y1: y(10 ** power), y2: y(10 ** power), stroke: colour("line") }),
        element("text", { x: left - 5, y: y(10 ** power) + 4, "text-anchor": "end" }, power <= 2 ? `${10 ** (power + 2)} %` : `10^${power}`));
    }
    for (const [value, words] of ticks) svg.append(element("text", { x: x(value), y: height - 12, "text-anchor": "middle" }, words));
    svg.append(element("path", { d: `M${points.map(([value, error]) => `${x(value).toFixed(1)} ${y(error).toFixed(1)}`).join("L")}`,
      fill: "none", stroke: colour("exact"), "stroke-width": 2 }));
    if (at) svg.append(element("circle", { cx: x(at[0]), cy: y(at[1]), r: 6, fill: colour("near"), stroke: colour("paper") }));
    svg.style.cursor = "pointer";
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect(), clicked = (event.clientX - box.left) / box.width * width;
      act(points.reduce((best, one) => (Math.abs(x(one[0]) - clicked) < Math.abs(x(best[0]) - clicked) ? one : best))[0]);
    });
    place.replaceChildren(svg);
  }

  let drawing = 0;
  async function drawErrors(at) { // a line takes up to a second: the page stays alive meanwhile
    const mine = ++drawing, setting = [at.text, at.masking, at.layer, at.head];
    const own = errorAt(...setting, at.m, at.steps);
    output("error").textContent = `With ${at.m} landmarks and ${at.steps === EXACT ? "the exact inverse" : `${stepsInWords(at.steps)} of the inverse`}, F A⁺ B is ${percent(own)} of the exact weights away from them (Frobenius norm).`
      + (at.m >= at.length ? " With as many landmarks as tokens the model itself attends exactly." : "");
    const { modes } = told.texts[at.text], byMode = [], counts = [];
    for (let m = Math.min(2, at.length); m <= at.length; m += at.length > 64 && m >= 16 ? 4 : 1) counts.push(m);
    if (!counts.includes(at.m)) counts.push(at.m);
    counts.sort((one, two) => one - two);
    const byM = [], bySteps = [];
    let rest = performance.now();
    const pause = async () => {
      if (performance.now() - rest < 20) return true;
      await new Promise((go) => { setTimeout(go); });
      rest = performance.now();
      return mine === drawing;
    };
    for (const { masking, length } of modes) {
      byMode.push(`${MASKINGS[masking]} ${percent(errorAt(at.text, masking, at.layer, at.head, Math.min(at.m, length), at.steps))}`);
      if (!(await pause())) return;
    }
    if (modes.length > 1) output("padding").append(` Away from exact: ${byMode.join(", ")}.`);
    for (let steps = 0; steps <= EXACT; steps++) {
      bySteps.push([steps, errorAt(...setting, at.m, steps)]);
      if (!(await pause())) return;
    }
    drawLine(find(".x-by-steps"), bySteps, at.steps, [[0, "0"], [2, "2"], [4, "4"], [6, "6"], [8, "8"], [11, "exact"]], (steps) => set({ steps }));
    for (const m of counts) {
      byM.push([m, errorAt(...setting, m, at.steps)]);
      if (!(await pause())) return;
    }
    drawLine(find(".x-by-m"), byM, at.m, counts.filter((m, i) => [0, counts.length - 1].includes(i) || (m % 16 === 0 && at.length - m > 6)).map((m) => [m, String(m)]), (m) => set({ m }));
    const details = find('details[data-table="errors"]');
    const table = (caption, head, rows) => element("div", { class: "x-scroll", tabindex: 0, role: "region", "aria-label": caption }, element("table", {}, element("caption", {}, caption),
      element("thead", {}, element("tr", {}, ...[head, "relative error"].map((word) => element("th", { scope: "col" }, word)))),
      element("tbody", {}, ...rows.map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, percent(value)))))));
    details.lastChild.replaceChildren(...(details.open ? [table("by landmarks", "landmarks", byM.map(([m, value]) => [String(m), value])),
      table("by steps", "inverse", bySteps.map(([steps, value]) => [stepsInWords(steps), value]))] : []));
    root.dataset.state = "ready";
  }

  function drawGuesses(at) {
    const text = told.texts[at.text], section = find(".x-guesses");
    section.hidden = text.masked === null;
    if (section.hidden) return;
    output("guesses").textContent = "The whole model, run by the package once for each setting: all layers and heads with this number of landmarks, this inverse and this treatment of padding."
      + (at.m >= at.length ? " With as many landmarks as tokens it attends exactly." : "");
    const table = (caption, guesses, kind) => element("table", { class: "x-answers" }, element("caption", {}, caption),
      element("thead", {}, element("tr", {}, ...["token", "probability", ""].map((word) => (word ? element("th", { scope: "col" }, word) : element("td"))))),
      element("tbody", {}, ...guesses.map(({ word, share }) => element("tr", {}, element("th", { scope: "row" }, label(word)),
        element("td", {}, shown(share)), element("td", {}, element("span", { class: `x-bar ${kind}`, style: `width: ${(95 * share).toFixed(1)}%` }))))));
    output("answers").replaceChildren(table("exact attention", guessesOf(at.text, at.masking, null), ""),
      table(`${at.m} landmarks, ${at.steps === EXACT ? "exact inverse" : stepsInWords(at.steps)}`, guessesOf(at.text, at.masking, at.m, at.steps), "x-near"));
  }

  // --- controls ---------------------------------------------------------------------------------------------------

  function drawControls(at) {
    const form = find("form");
    for (const name of ["text", "layer", "head"]) form.elements[name].value = String(at[name]);
    form.elements.view.value = at.view;
    form.elements.m.min = Math.min(2, at.length);
    form.elements.m.max = at.length;
    form.elements.m.value = at.m;
    form.elements.steps.value = at.steps;
    form.elements.steps.setAttribute("aria-valuetext", stepsInWords(at.steps));
    output("m").textContent = `${at.m} of ${at.length}`;
    output("steps").textContent = stepsInWords(at.steps);
    const modes = told.texts[at.text].modes;
    for (const radio of form.elements.masking) radio.disabled = !modes.some((mode) => mode.masking === radio.value) || modes.length === 1;
    form.elements.masking.value = modes.length > 1 ? at.masking : "";
    const { tokens, real } = told.texts[at.text];
    output("padding").textContent = modes.length > 1 ? `${tokens.length - real} of ${tokens.length} tokens are padding.` : "This text has no padding: the three agree.";
  }

  function draw(changed) {
    const at = now();
    root.dataset.state = "drawing";
    drawControls(at);
    drawTokens(at);
    drawWeights(at);
    drawBoards(at);
    drawCell(at);
    drawGuesses(at);
    drawErrors(at);
    if (changed) history.replaceState(null, "", address());
  }

  let due = false;
  function set(change) {
    Object.assign(wanted, change);
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; draw(true); });
  }

  function makeControls() {
    const form = find("form"), options = (name, words) => form.elements[name].append(...words.map((word, i) => element("option", { value: i }, word)));
    options("text", told.texts.map(({ text }, i) => `${i + 1}. ${text.length > 60 ? `${text.slice(0, 58)}…` : text}`));
    options("layer", Array.from({ length: told.layers }, (_, i) => `${i + 1} of ${told.layers}`));
    options("head", Array.from({ length: told.heads }, (_, i) => `${i + 1} of ${told.heads}`));
    form.elements.text.addEventListener("change", () => { cell = null; set({ text: Number(form.elements.text.value), token: null }); });
    for (const name of ["layer", "head"]) form.elements[name].addEventListener("change", () => set({ [name]: Number(form.elements[name].value) }));
    for (const name of ["m", "steps"]) form.elements[name].addEventListener("input", () => set({ [name]: Number(form.elements[name].value) }));
    for (const name of ["view", "masking"]) for (const radio of form.elements[name]) radio.addEventListener("change", () => set({ [name]: radio.value }));
    form.elements.copy.addEventListener("click", async () => {
      history.replaceState(null, "", address());
      try {
        await navigator.clipboard.writeText(location.href);
        output("copied").textContent = "copied";
      } catch {
        output("copied").textContent = "the address of this page is the link";
      }
    });
    const list = find(".x-tokens"), tokenOf = (event) => event.target.closest("[data-token]")?.dataset.token;
    list.addEventListener("click", (event) => { if (tokenOf(event)) { hovered = null; set({ token: Number(tokenOf(event)) }); } });
    list.addEventListener("pointerover", (event) => {
      if (event.pointerType === "touch" || !tokenOf(event)) return;
      hovered = Number(tokenOf(event));
      drawWeights(now());
    });
    list.addEventListener("pointerleave", () => { hovered = null; drawWeights(now()); });
    list.addEventListener("keydown", (event) => {
      const at = now(), to = { ArrowLeft: at.token - 1, ArrowUp: at.token - 1, ArrowRight: at.token + 1, ArrowDown: at.token + 1, Home: 0, End: at.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      hovered = null;
      set({ token: Math.max(0, Math.min(at.length - 1, to)) });
    });
    for (const name of ["profile", "errors"]) find(`details[data-table="${name}"]`).addEventListener("toggle", () => draw(false));
  }

  find(".x-by-m").dataset.title = "Relative error against the number of landmarks";
  find(".x-by-steps").dataset.title = "Relative error against the steps of the inverse";
  readAddress();
  makeControls();
  makeBoards();
  draw(false);
  addEventListener("hashchange", () => { readAddress(); draw(false); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(false));
  new MutationObserver(() => draw(false)).observe(document.body, { attributes: true, attributeFilter: ["data-theme"] });
})();
