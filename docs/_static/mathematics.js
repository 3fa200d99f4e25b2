// KaTeX writes each formula where its TeX stands; without scripts the TeX itself stays readable.
document.addEventListener("DOMContentLoaded", () => {
  for (const place of document.querySelectorAll(".katex-source")) {
    katex.render(place.textContent, place, { displayMode: place.classList.contains("display"), throwOnError: false });
  }
});
