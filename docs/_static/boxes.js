document.addEventListener("DOMContentLoaded", () => {
  // Two places beside the text, which a screen reader tells apart by their names.
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "All pages");
  document.querySelector(".toc-drawer")?.setAttribute("aria-label", "On this page");

  // The page that is open is seen in the list of all pages; a read has its own list above it.
  const pages = document.querySelector(".sidebar-scroll:not(:has(.read-contents))");
  const open = pages?.querySelector(".current-page");
  if (open) pages.scrollTo({ top: open.offsetTop - pages.clientHeight / 2, behavior: "instant" });

  // What is wider than its frame is reached, and scrolled, with the keyboard.
  const frames = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const frame of document.querySelectorAll(".highlight pre, .table-wrapper, .katex-source.display")) frames.observe(frame);

  // On a phone a row of few columns becomes a card, with the columns' names beside its values; wider tables scroll.
  for (const table of document.querySelectorAll("article table.docutils")) {
    const names = [...table.querySelectorAll("thead th")].map((name) => name.textContent.trim());
    const goesOn = [...table.querySelectorAll("tbody td:first-child")].some((cell) => !cell.textContent.trim());
    if (names.length < 3 || names.length > 5 || goesOn) continue; // a row that goes on with the one above is no card
    table.classList.add("cards");
    table.setAttribute("role", "table"); // which a change of display would take away
    for (const row of table.rows) {
      row.setAttribute("role", "row");
      for (const [i, cell] of [...row.cells].entries()) {
        cell.setAttribute("role", cell.tagName === "TH" ? "columnheader" : "cell");
        if (cell.tagName === "TD" && names[i]) cell.dataset.label = names[i];
      }
    }
  }
});
