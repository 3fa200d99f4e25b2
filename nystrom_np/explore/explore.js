// The explorer: reads the scores q kᵀ, computes attention from them as nystrom_np/definition.py does, and draws it.
(() => {
  "use strict";
  const root = document.getElementById("explorer");
  const { told, numbers } = window.exploration;
  const bytes = Uint8Array.from(atob(numbers), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const MASKINGS = { transformers: "as transformers", original: "as the authors", invariant: "not there" };
  const TITLES = { exact: "S, exact", nystrom: "F A⁺ B", difference: "F A⁺ B − S" };
  const PLACES = { S: "ij", F: "iq", B: "pj", A: "pq", P: "qp" }; // of rows, columns: i, j tokens, p a landmark of queries, q one of keys
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

  const modeOf = (text, masking) => told.texts[text].modes.find((one) => one.masking === masking);
  const matrix = (rows, columns) => ({ rows, columns, values: new Float64Array(rows * columns) });

  const scoresOf = remember((text, masking, layer, head) => {
    const { length: n, scores } = modeOf(text, masking);
    const start = scores + 2 * n * n * (layer * told.heads + head), found = matrix(n, n);
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

  const transposed = (a) => ({ rows: a.columns, columns: a.rows, values: a.values.map((_, i) => a.values[(i % a.rows) * a.columns + Math.floor(i / a.rows)]) });

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

  const largestColumn = (a) => a.rows * d3.max(rowMeans(a, 1).values);

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

  const errorAt = remember((...setting) => { // in the Frobenius norm, relative to the exact weights
    const exact = exactOf(...setting.slice(0, 4)).values, found = near(...setting).values;
    return Math.sqrt(d3.sum(exact, (value, i) => (found[i] - value) ** 2) / d3.sum(exact, (value) => value ** 2));
  });

  function realOf(text, masking) {
    return masking === "invariant" ? modeOf(text, masking).length : told.texts[text].real;
  }

  function guessesOf(text, masking, m, steps) { // m = null: exact attention
    const { guesses, length } = modeOf(text, masking);
    const place = m === null || m >= length ? 0 : 1 + (m - 2) * (EXACT + 1) + steps;
    return Array.from({ length: GUESSES }, (_, i) => {
      const offset = guesses + 4 * (place * GUESSES + i);
      return { word: told.words[view.getUint16(offset, true)], share: half(offset + 2) };
    });
  }

  // --- settings, which the address holds -------------------------------------------------------------------------

  const wanted = {}; // as chosen; what a text cannot have is replaced in `now`
  let hovered = null, cell = null; // the token pointed at; the cell looked at: its matrix and its places, see `PLACES`

  function initial() {
    Object.assign(wanted, { text: 0, layer: 0, head: 0, view: "nystrom", m: Math.max(2, told.landmarks), masking: null, token: null,
      steps: told.steps === null ? EXACT : Math.min(told.steps, EXACT - 1) });
  }

  function readAddress() {
    initial();
    const given = new URLSearchParams(location.hash.slice(1));
    const read = (name, low, high) => {
      const value = Number.parseInt(given.get(name), 10);
      if (value >= low && value <= high) wanted[name] = value - (low === 1); // people count texts, layers and heads from 1
    };
    read("text", 1, told.texts.length);
    read("layer", 1, told.layers);
    read("head", 1, told.heads);
    read("m", 2, 1000);
    read("steps", 0, EXACT - 1);
    read("token", 0, 1000);
    if (given.get("steps") === "exact") wanted.steps = EXACT;
    if (Object.hasOwn(TITLES, given.get("view"))) wanted.view = given.get("view");
    if (Object.hasOwn(MASKINGS, given.get("masking"))) wanted.masking = given.get("masking");
  }

  function now() {
    const { masked, modes } = told.texts[wanted.text], { masking, length } = modeOf(wanted.text, wanted.masking) ?? modes[0];
    const m = Math.min(wanted.m, length), place = [wanted.text, masking, wanted.layer, wanted.head];
    return { ...wanted, masking, length, real: realOf(wanted.text, masking), m, token: Math.min(wanted.token ?? masked ?? 0, length - 1),
      place, setting: [...place, m, wanted.steps] };
  }

  function address() {
    const at = now();
    const parts = { text: at.text + 1, layer: at.layer + 1, head: at.head + 1, view: at.view, m: at.m,
      steps: at.steps === EXACT ? "exact" : at.steps, masking: at.masking, token: at.token };
    return `#${new URLSearchParams(parts)}`;
  }

  // --- words ------------------------------------------------------------------------------------------------------

  const within = (value, low, high) => value === 0 || (Math.abs(value) >= low && Math.abs(value) < high);
  const shown = (value) => d3.format(within(value, 1e-4, 1e5) ? ".4~r" : ".3~e")(value).replace("e-", "e−"); // where no line breaks
  const brief = (value) => d3.format(within(value, 1e-3, 10) ? ".3f" : within(value, 10, 1e3) ? ".1f" : within(value, 1e3, 9999) ? ".0f" : ".0e")(value);
  const briefest = (value) => d3.format(within(value, 0, 9.995) ? ".2f" : ".3~g")(value).replace(/^(−?)0(?=\.)/, "$1");
  const percent = (value) => `${d3.format(".3~r")(100 * value)} %`;
  const label = (token) => token.replace(/^▁(?=.)/, "");
  const named = (i) => `${label(told.texts[wanted.text].tokens[i])} (${i})`;
  const stepsInWords = (steps) => (steps === EXACT ? "exact" : `${steps} ${steps === 1 ? "step" : "steps"}`);
  const spanOf = (starts, a) => (starts[a + 1] - starts[a] === 1 ? `token ${starts[a]}` : `tokens ${starts[a]} to ${starts[a + 1] - 1}`);
  const kindOf = (place) => ("ij".includes(place) ? "token" : "landmark");
  const nameOf = (place, i) => (kindOf(place) === "token" ? named(i) : `landmark ${i}`);

  function table(caption, heads, rows) { // the first cell of a row is its name
    const made = d3.create("table");
    made.append("caption").text(caption);
    made.append("thead").append("tr").selectAll().data(heads).join((enter) => enter.append((words) => document.createElement(words ? "th" : "td")))
      .attr("scope", (words) => (words ? "col" : null)).text(String);
    const lines = made.append("tbody").selectAll().data(rows).join("tr");
    lines.append("th").attr("scope", "row").text(([name]) => name);
    lines.selectAll("td").data((row) => row.slice(1)).join("td").text(String);
    return made;
  }

  const framed = (made, name) => d3.create("div").attr("class", "x-scroll").attr("tabindex", 0).attr("role", "region").attr("aria-label", name)
    .call((frame) => frame.append(() => made.node())).node();

  const addBars = (made, column, shares, kind) => made.selectAll(`tbody td:nth-child(${column})`).append("span").attr("class", `x-bar ${kind}`)
    .style("width", (_, i) => shares[i]);

  // --- pictures ---------------------------------------------------------------------------------------------------

  const theme = {}; // the colours of the style sheet, light or dark
  const largest = (values) => d3.max(values, Math.abs) || 1;
  const ramp = (top) => {
    const scale = d3.scalePow([-top, top], [0, 510]).exponent(0.6).clamp(true), { shades } = theme;
    return (value) => shades[Math.round(scale(value))];
  };
  const inkOn = (fill) => (d3.lab(fill).l < 49.4 ? "#fff" : "#000"); // there white and black are read equally well
  const picture = (place, width, height, name) => d3.select(place).html("").append("svg").attr("viewBox", `0 0 ${width} ${height}`)
    .attr("role", "img").attr("aria-label", name);

  function largeMatrix(at) {
    const exact = exactOf(...at.place), found = near(...at.setting);
    if (at.view !== "difference") return at.view === "exact" ? exact : found;
    return { ...exact, values: found.values.map((value, i) => value - exact.values[i]) };
  }

  const boards = (at) => boardsOf(at.view, theme.paper, ...at.setting);

  const boardsOf = remember((view, paper, ...setting) => {
    const place = setting.slice(0, 4), { f, a, b } = kernels(...place, setting[4]), exact = exactOf(...place).values;
    const board = (title, found, most = largest(found.values)) => ({ title, a: found, most, colours: ramp(most) });
    return { S: board(TITLES[view], largeMatrix({ view, place, setting }), view === "difference" ? undefined : d3.quantile(exact, 0.995) || 1),
      F: board("F", f), B: board("B", b), A: board("A", a), P: board("A⁺", inverse(...setting)) };
  });

  function makeBoards() {
    for (const [name, [down, along]] of Object.entries(PLACES)) {
      const outer = d3.select(find(".x-matrices")).append("div").attr("class", "x-matrix").style("grid-area", name);
      outer.append("h3");
      const board = outer.append("div").attr("class", "x-board").attr("tabindex", 0).attr("role", "application").attr("data-board", name);
      board.append("canvas").attr("aria-hidden", true);
      board.append("svg").attr("aria-hidden", true);
      const point = (event) => {
        const { a } = boards(now())[name], [x, y] = d3.pointer(event, board.node());
        choose(name, Math.floor(y / board.node().clientHeight * a.rows), Math.floor(x / board.node().clientWidth * a.columns));
      };
      const look = () => { if (down === "i") set({ token: cellNow(now()).i }); };
      board.on("pointermove", point).on("pointerdown", point).on("click", look);
      board.on("focus", () => { if (cell?.board !== name) choose(name); });
      board.on("keydown", (event) => {
        if (event.key === "Enter") look();
        const { a } = boards(now())[name], { [down]: row, [along]: column } = cellNow(now());
        const to = { ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
          Home: [row, 0], End: [row, a.columns - 1], PageUp: [0, column], PageDown: [a.rows - 1, column] }[event.key];
        if (!to) return;
        event.preventDefault();
        choose(name, ...to);
      });
      const details = d3.select(find(".x-tables")).append("details").attr("data-table", name).on("toggle", () => fillTable(name));
      details.append("summary");
      details.append(() => framed(d3.create("table"), `${name} as a table`));
    }
  }

  function choose(board, row, column) { // of a cell in S the landmarks are those of its two tokens
    const at = now(), chosen = { ...cellNow(at), board };
    if (row !== undefined) Object.assign(chosen, { [PLACES[board][0]]: row, [PLACES[board][1]]: column });
    cell = board === "S" ? withLandmarks(at, chosen) : chosen;
    drawCell(at);
  }

  function withLandmarks(at, { board, i, j }) {
    const starts = segments(at.length, at.m), segment = (token) => d3.bisectRight(starts, token) - 1;
    return { board, i, j, p: segment(i), q: segment(j) };
  }

  function cellNow(at) {
    const weights = exactOf(...at.place).values.slice(at.token * at.length, (at.token + 1) * at.length);
    const { board, ...spots } = cell ?? withLandmarks(at, { board: "S", i: at.token, j: d3.maxIndex(weights) });
    for (const place of "ijpq") spots[place] = Math.max(0, Math.min(spots[place], (kindOf(place) === "token" ? at.length : at.m) - 1));
    return { board, ...spots };
  }

  function drawBoards(at) {
    const all = boards(at), grid = find(".x-matrices");
    const digits = 38 * at.m / grid.clientWidth, small = digits < 0.5 ? Math.max(digits, 0.2) : Math.max(at.m / (at.m + at.length), 0.2);
    grid.style.gridTemplateColumns = `minmax(0, ${1 - small}fr) minmax(0, ${small}fr)`;
    for (const [name, { title, a }] of Object.entries(all)) {
      const board = d3.select(find(`[data-board="${name}"]`));
      d3.select(board.node().parentNode).select("h3").text(title).append("span").attr("class", "x-size").text(` · ${a.rows} × ${a.columns}`);
      board.attr("aria-label", `${title}: ${a.rows} ${kindOf(PLACES[name][0])}s by ${a.columns} ${kindOf(PLACES[name][1])}s. Arrow keys go from cell to cell.`)
        .style("aspect-ratio", "SAP".includes(name) ? 1 : null); // the others are as high and wide as these beside them
      d3.select(find(`details[data-table="${name}"] summary`)).text(`${title} as a table`);
      fillTable(name);
    }
    const sized = d3.selectAll(".x-board").nodes().map((board) => [board, all[board.dataset.board], board.clientWidth, board.clientHeight]);
    for (const one of sized) paint(...one); // after all are measured, so that the page is laid out once
    output("product").textContent = `Blue is above zero, orange below; a full colour is ${shown(all.S.most)} or more in ${all.S.title}, the largest number in each other matrix. `
      + `Rows of S and F are tokens that look, columns of S and B tokens looked at. A landmark is ${at.length === at.m ? "one token" : `${d3.extent(d3.pairs(segments(at.length, at.m), (start, end) => end - start)).join(" or ").replace(/^(\d+) or \1$/, "$1")} neighbouring tokens`}.`;
  }

  function paint(board, { a, colours }, across, down) { // with digits where they can be read
    const canvas = board.querySelector("canvas"), fills = Array.from(a.values, (value) => colours(value));
    Object.assign(canvas, { width: a.columns, height: a.rows });
    const context = canvas.getContext("2d");
    fills.forEach((fill, i) => {
      context.fillStyle = fill;
      context.fillRect(i % a.columns, Math.floor(i / a.columns), 1, 1);
    });
    const width = across / a.columns, height = down / a.rows, words = width > 16 && height > 11 ? Array.from(a.values, briefest) : [];
    const size = Math.min(12, 0.8 * height, (width - 5) / (0.6 * d3.max(words, (word) => word.length)));
    d3.select(board).select("svg").selectAll("text").data(size >= 9 ? words : []).join("text").text(String).attr("font-size", size)
      .attr("x", (_, i) => `${100 * (i % a.columns + 0.5) / a.columns}%`).attr("y", (_, i) => `${100 * (Math.floor(i / a.columns) + 0.5) / a.rows}%`)
      .attr("fill", (_, i) => inkOn(fills[i]));
  }

  function drawCell(at) {
    const all = boards(at), point = cellNow(at);
    for (const [name, { a }] of Object.entries(all)) {
      const [row, column] = PLACES[name], marks = row === "i" ? [[at.token, 1, 0, a.columns]] : [];
      if (point.board === name) marks.push([point[row], 1, point[column], 1]);
      else if (point.board === "S" && name === "F") marks.push([point.i, 1, 0, a.columns]);
      else if (point.board === "S" && name === "B") marks.push([0, a.rows, point.j, 1]);
      d3.select(find(`[data-board="${name}"] svg`)).selectAll("rect").data(marks).join("rect")
        .attr("y", (mark) => `${100 * mark[0] / a.rows}%`).attr("height", (mark) => `${100 * mark[1] / a.rows}%`)
        .attr("x", (mark) => `${100 * mark[2] / a.columns}%`).attr("width", (mark) => `${100 * mark[3] / a.columns}%`);
    }
    output("cell").textContent = cellInWords(at, all, point);
    drawLens(at, all, point);
  }

  function cellInWords(at, all, point) {
    const { title, a } = all[point.board], [down, along] = PLACES[point.board], { [down]: row, [along]: column } = point, starts = segments(at.length, at.m);
    const name = (place) => `${nameOf(place, point[place])}${kindOf(place) === "token" ? "" : ` (${spanOf(starts, point[place])})`}`;
    if (point.board !== "S") return `${title}, from ${name(down)} to ${name(along)}: ${shown(a.values[row * a.columns + column])}`;
    const exact = exactOf(...at.place).values[row * at.length + column];
    const found = near(...at.setting).values[row * at.length + column];
    return `From ${named(row)} to ${named(column)}: exact ${shown(exact)}, Nyström ${shown(found)}, difference ${shown(found - exact)}. `
      + `Nyström's number is row ${row} of F times A⁺ times column ${column} of B.`;
  }

  // The cells about the one looked at, of all five matrices, with their numbers: they stand as the matrices do.
  function drawLens(at, all, point) {
    const lens = find(".x-lens"), size = Number.parseFloat(getComputedStyle(lens).fontSize), fit = Math.max(4, Math.floor((lens.clientWidth / size - 6.9) / 4.1));
    const landmarks = Math.min(at.m, Math.max(fit >> 1, fit - at.length)), tokens = Math.min(at.length, fit - landmarks);
    const around = (middle, count, many) => d3.range(many).map((i) => i + Math.max(0, Math.min(count - many, middle - (many >> 1))));
    const spots = { i: around(point.i, at.length, Math.min(at.length, 5)), j: around(point.j, at.length, tokens), p: around(point.p, at.m, landmarks), q: around(point.q, at.m, landmarks) };
    const title = (name) => ({ words: `${all[name].title}${"FP".includes(name) ? " · landmarks" : ""}`, head: "colgroup", span: spots[PLACES[name][1]].length });
    const heads = (name) => spots[PLACES[name][1]].map((i) => ({ words: kindOf(PLACES[name][1]) === "token" ? named(i).replace(/ \((\d+)\)$/, "\n$1") : i, head: "col" }));
    const cells = (name, row) => spots[PLACES[name][1]].map((column) => {
      const { a, colours } = all[name], [down, along] = PLACES[name], value = a.values[row * a.columns + column];
      return { words: brief(value), fill: colours(value), where: [name, row, column], here: point.board === name && point[down] === row && point[along] === column };
    });
    const band = (names, before = [], span = 1) => spots[PLACES[names[0]][0]].map((i) => [...before, { words: nameOf(PLACES[names[0]][0], i).replace(/[()]/g, ""), head: "row", span }, ...[...names].flatMap((name) => cells(name, i))]);
    const none = [{ words: "" }], gap = [{ words: "", span: tokens + 1 }];
    const lines = [[...none, title("S"), title("F")], [...none, ...heads("S"), ...heads("F")], ...band("SF"),
      [...none, title("B"), title("A")], ...band("BA"), [...gap, title("P")], [...gap, ...heads("P")], ...band("P", [{ words: "", span: tokens - 1 }], 2)];
    d3.select(lens).select("tbody").html("").selectAll().data(lines).join("tr").selectAll().data((line) => line)
      .join((enter) => enter.append(({ head }) => document.createElement(head ? "th" : "td"))).text(({ words }) => words)
      .attr("scope", ({ head }) => head).attr("colspan", ({ span }) => span).attr("class", ({ here }) => (here ? "x-here" : null)).attr("data-cell", ({ where }) => where)
      .style("background", ({ fill }) => fill).style("color", ({ fill }) => fill && inkOn(fill)).on("click", (_, { where }) => { if (where) choose(...where); });
  }

  function fillTable(name) {
    const details = find(`details[data-table="${name}"]`);
    if (!details.open) return details.lastChild.replaceChildren();
    const { a, title } = boards(now())[name], [down, along] = PLACES[name];
    const lines = d3.range(a.rows).map((i) => [nameOf(down, i), ...Array.from(a.values.slice(i * a.columns, (i + 1) * a.columns), shown)]);
    return details.lastChild.replaceChildren(table(title, ["", ...d3.range(a.columns).map((j) => nameOf(along, j))], lines).node());
  }

  function drawTokens(at) {
    const list = find(".x-tokens"), starts = segments(at.length, at.m), had = list.contains(document.activeElement);
    d3.select(list).selectAll(".x-segment").data(d3.range(at.m)).join("span").attr("class", "x-segment").attr("role", "group")
      .attr("aria-label", (s) => `segment ${s}`).selectAll(".x-token").data((s) => d3.range(starts[s], starts[s + 1])).join("span")
      .attr("class", (i) => `x-token${i >= at.real ? " x-padding" : ""}`).attr("role", "option").attr("id", (i) => `x-token-${i}`)
      .attr("tabindex", (i) => (i === at.token ? 0 : -1)).attr("aria-selected", (i) => i === at.token).attr("data-token", (i) => i)
      .text((i) => label(told.texts[at.text].tokens[i]));
    if (had) find(`#x-token-${at.token}`).focus();
    output("tokens").textContent = `Choose a token. Where it looks is blue, the more the deeper${at.view === "exact" ? "" : "; what is below zero is orange"}. `
      + `The lines under the text are the ${at.m} segments whose means are the landmarks.`;
  }

  function drawWeights(at) {
    const token = hovered ?? at.token, n = at.length, rowOf = (a) => a.values.slice(token * n, (token + 1) * n);
    const exact = rowOf(exactOf(...at.place)), found = rowOf(near(...at.setting));
    const painted = rowOf(largeMatrix(at)), colours = ramp(largest(painted));
    d3.select(find(".x-tokens")).selectAll(".x-token").style("background", (i) => colours(painted[i])).style("color", (i) => inkOn(colours(painted[i])));
    drawProfile(at, token, exact, found);
    const heads = ["token", "exact", "Nyström"], line = (i) => [named(i), shown(exact[i]), shown(found[i])];
    const order = d3.sort(d3.range(n), (i) => -Math.max(exact[i], Math.abs(found[i]))).slice(0, 8);
    const most = Math.max(exact[order[0]], Math.abs(found[order[0]])), widths = (values) => order.map((i) => `${4 * Math.abs(values[i]) / most}rem`);
    const made = table(`Where ${named(token)} looks most`, heads, order.map(line)).attr("class", "x-largest");
    made.selectAll("tbody tr").attr("data-key", (_, row) => order[row]);
    addBars(made, 2, widths(exact), "");
    addBars(made, 3, widths(found), "x-near");
    find(".x-largest").replaceWith(made.node());
    const all = find('details[data-table="profile"]');
    all.lastChild.replaceChildren(...(all.open ? [table(`From ${named(token)} to`, heads, d3.range(n).map(line)).node()] : []));
  }

  function drawProfile(at, token, exact, found) {
    const width = 640, height = 150, high = Math.max(...exact, ...found, 1e-9), low = Math.min(0, ...found);
    const y = d3.scaleLinear([low, high], [height - 8, 8]), x = d3.scaleBand(d3.range(at.length), [0, width]).padding(0.1);
    const svg = picture(find(".x-profile"), width, height, `Bars: the weights that ${named(token)} gives to each of ${at.length} tokens, exact and Nyström. The tables below have the numbers.`);
    [exact, found].forEach((values, second) => svg.append("g").attr("fill", theme[second ? "near" : "exact"]).selectAll().data(values).join("rect")
      .attr("x", (_, j) => x(j) + second * x.bandwidth() / 2).attr("width", x.bandwidth() / 2)
      .attr("y", (value) => Math.min(y(value), y(0))).attr("height", (value) => Math.abs(y(value) - y(0))));
    svg.append("line").attr("x2", width).attr("y1", y(0)).attr("y2", y(0)).attr("stroke", theme.soft);
    output("profile").textContent = `From ${named(token)} to each token in turn: exact in blue, Nyström in orange. The highest bar is ${shown(high)}.`;
  }

  function drawLine(place, points, current, ticks, act) { // ticks: values and their names
    const width = 360, height = 210, left = 50, right = width - 20, floor = 1e-4, errors = points.map(([, value]) => Math.max(value, floor));
    const powers = [Math.floor(Math.log10(Math.min(...errors, 0.1))), Math.ceil(Math.log10(Math.max(...errors, 1)))];
    const y = d3.scaleLog(powers.map((power) => 10 ** power), [height - 26, 8]), x = d3.scaleLinear(d3.extent(points, ([value]) => value), [left, right]);
    const here = points.find(([value]) => value === current);
    const svg = picture(place, width, height, `${place.dataset.title}: ${points.length} points${here ? `; now ${percent(here[1])}` : ""}. The table below has the numbers.`);
    svg.append("g").attr("class", "x-grid").attr("transform", `translate(${left})`).call(d3.axisLeft(y).tickValues(d3.range(powers[0], powers[1] + 1).map((power) => 10 ** power))
      .tickSize(left - right).tickFormat((value) => (value < 1e3 ? `${100 * value} %` : `10^${Math.round(Math.log10(value))}`)));
    svg.append("g").attr("transform", `translate(0,${height - 26})`).call(d3.axisBottom(x).tickValues([...ticks.keys()]).tickFormat((value) => ticks.get(value)).tickSizeOuter(0));
    svg.append("polyline").attr("points", points.map(([value], i) => `${x(value)},${y(errors[i])}`).join(" ")).attr("stroke", theme.exact);
    svg.selectAll("circle").data(here ? [here] : []).join("circle").attr("cx", ([value]) => x(value)).attr("cy", ([, error]) => y(Math.max(error, floor)))
      .attr("r", 6).attr("fill", theme.near).attr("stroke", theme.paper);
    svg.style("cursor", "pointer").on("click", (event) => act(d3.least(points, ([value]) => Math.abs(x(value) - d3.pointer(event)[0]))[0]));
  }

  let drawing = 0;
  async function drawErrors(at) { // a line takes up to a second: the page stays alive meanwhile
    const mine = ++drawing, { modes } = told.texts[at.text];
    output("error").textContent = `With ${at.m} landmarks and ${at.steps === EXACT ? "the exact inverse" : `${stepsInWords(at.steps)} of the inverse`}, F A⁺ B is ${percent(errorAt(...at.setting))} of the exact weights away from them (Frobenius norm).`
      + (at.m >= at.length ? " With as many landmarks as tokens the model itself attends exactly." : "");
    let rest = performance.now();
    const slowly = async (values, errorOf, found = []) => {
      for (const value of values) {
        found.push([value, errorOf(value)]);
        if (performance.now() - rest < 20) continue;
        await new Promise((go) => { setTimeout(go); });
        rest = performance.now();
        if (mine !== drawing) throw new Superseded();
      }
      return found;
    };
    const byMode = await slowly(modes, ({ masking, length }) => errorAt(at.text, masking, at.layer, at.head, Math.min(at.m, length), at.steps));
    if (modes.length > 1) output("padding").append(` Away from exact: ${byMode.map(([{ masking }, error]) => `${MASKINGS[masking]} ${percent(error)}`).join(", ")}.`);
    const bySteps = await slowly(d3.range(EXACT + 1), (steps) => errorAt(...at.place, at.m, steps));
    drawLine(find(".x-by-steps"), bySteps, at.steps, new Map([0, 2, 4, 6, 8, EXACT].map((steps) => [steps, steps === EXACT ? "exact" : steps])), (steps) => set({ steps }));
    const counts = d3.range(Math.min(2, at.length), at.length + 1).filter((m) => m <= 64 || m === at.m || m === at.length || m % 4 === 0);
    const byM = await slowly(counts, (m) => errorAt(...at.place, m, at.steps));
    const ends = d3.extent(counts), step = Math.max(1, (ends[1] - ends[0]) / 12);
    drawLine(find(".x-by-m"), byM, at.m, new Map([...ends, ...d3.ticks(...ends, 4).filter((m) => Number.isInteger(m) && ends.every((end) => Math.abs(m - end) > step))].map((m) => [m, m])), (m) => set({ m }));
    const details = find('details[data-table="errors"]'), words = (points, name) => points.map(([value, error]) => [name(value), percent(error)]);
    details.lastChild.replaceChildren(...(details.open ? [framed(table("by landmarks", ["landmarks", "relative error"], words(byM, String)), "by landmarks"),
      framed(table("by steps", ["inverse", "relative error"], words(bySteps, stepsInWords)), "by steps")] : []));
    root.dataset.state = "ready";
  }

  class Superseded extends Error {} // by another setting, chosen meanwhile

  function drawGuesses(at) {
    const section = find(".x-guesses");
    section.hidden = told.texts[at.text].masked === null;
    if (section.hidden) return;
    output("guesses").textContent = "The whole model, run by the package once for each setting: all layers and heads with this number of landmarks, this inverse and this treatment of padding."
      + (at.m >= at.length ? " With as many landmarks as tokens it attends exactly." : "");
    const answers = (caption, guesses, kind) => {
      const made = table(caption, ["token", "probability", ""], guesses.map(({ word, share }) => [label(word), shown(share), ""])).attr("class", "x-answers");
      addBars(made, 3, guesses.map(({ share }) => `${95 * share}%`), kind);
      return made.node();
    };
    output("answers").replaceChildren(answers("exact attention", guessesOf(at.text, at.masking, null), ""),
      answers(`${at.m} landmarks, ${at.steps === EXACT ? "exact inverse" : stepsInWords(at.steps)}`, guessesOf(at.text, at.masking, at.m, at.steps), "x-near"));
  }

  // --- controls ---------------------------------------------------------------------------------------------------

  function drawControls(at) {
    const form = find("form"), { tokens, real, modes } = told.texts[at.text];
    for (const name of ["text", "layer", "head", "view", "steps"]) form.elements[name].value = at[name];
    Object.assign(form.elements.m, { min: Math.min(2, at.length), max: at.length, value: at.m });
    form.elements.steps.setAttribute("aria-valuetext", stepsInWords(at.steps));
    output("m").textContent = `${at.m} of ${at.length}`;
    output("steps").textContent = stepsInWords(at.steps);
    for (const radio of form.elements.masking) radio.disabled = modes.length === 1;
    form.elements.masking.value = modes.length > 1 ? at.masking : "";
    output("padding").textContent = modes.length > 1 ? `${tokens.length - real} of ${tokens.length} tokens are padding.` : "This text has no padding: the three agree.";
  }

  function draw(changed) {
    const at = now();
    root.dataset.state = "drawing";
    const style = getComputedStyle(root);
    for (const name of ["near", "paper", "exact", "soft"]) theme[name] = style.getPropertyValue(`--x-${name}`).trim();
    theme.shades = d3.range(-255, 256).map(d3.scaleLinear([-255, 0, 255], [theme.near, theme.paper, theme.exact]));
    drawControls(at);
    drawTokens(at);
    drawWeights(at);
    drawBoards(at);
    drawCell(at);
    drawGuesses(at);
    drawErrors(at).catch((reason) => { if (!(reason instanceof Superseded)) throw reason; });
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
    const form = find("form"), controls = form.elements;
    const options = (name, words) => d3.select(controls[name]).selectAll("option").data(words).join("option").attr("value", (_, i) => i).text(String);
    options("text", told.texts.map(({ text }, i) => `${i + 1}. ${text.length > 60 ? `${text.slice(0, 58)}…` : text}`));
    options("layer", d3.range(told.layers).map((i) => `${i + 1} of ${told.layers}`));
    options("head", d3.range(told.heads).map((i) => `${i + 1} of ${told.heads}`));
    form.addEventListener("input", ({ target: { name, value } }) => {
      if (name === "text") cell = null;
      set({ [name]: ["view", "masking"].includes(name) ? value : Number(value), ...(name === "text" ? { token: null } : {}) });
    });
    controls.copy.addEventListener("click", async () => {
      history.replaceState(null, "", address());
      try {
        await navigator.clipboard.writeText(location.href);
        output("copied").textContent = "copied";
      } catch {
        output("copied").textContent = "the address of this page is the link";
      }
    });
    const tokenOf = (event) => event.target.closest("[data-token]")?.dataset.token;
    const look = (token) => {
      hovered = cell = null;
      set({ token: Math.max(0, Math.min(now().length - 1, token)) });
    };
    d3.select(find(".x-tokens")).on("click", (event) => { if (tokenOf(event)) look(Number(tokenOf(event))); }).on("pointerover", (event) => {
      if (event.pointerType === "touch" || !tokenOf(event)) return;
      hovered = Number(tokenOf(event));
      drawWeights(now());
    }).on("pointerleave", () => { hovered = null; drawWeights(now()); }).on("keydown", (event) => {
      const { token, length } = now();
      const to = { ArrowLeft: token - 1, ArrowUp: token - 1, ArrowRight: token + 1, ArrowDown: token + 1, Home: 0, End: length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      look(to);
    });
    for (const name of ["profile", "errors"]) find(`details[data-table="${name}"]`).addEventListener("toggle", () => draw(false));
  }

  readAddress();
  makeControls();
  makeBoards();
  draw(false);
  addEventListener("hashchange", () => { cell = null; readAddress(); draw(false); });
  let width = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (width && width !== contentRect.width) draw(false);
    width = contentRect.width;
  }).observe(root);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(false));
  new MutationObserver(() => draw(false)).observe(document.body, { attributes: true, attributeFilter: ["data-theme"] });
})();
