// What is wider than its frame is reached, and scrolled, with the keyboard.
document.addEventListener("DOMContentLoaded", () => {
  const frames = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const frame of document.querySelectorAll(".highlight pre, .table-wrapper, .katex-source.display")) frames.observe(frame);
});
