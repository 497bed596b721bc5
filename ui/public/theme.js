// Before the first paint: the chosen colours and density. A file of its own, for the policy allows no inline script.
(function () {
  try {
    var root = document.documentElement;
    var theme = localStorage.getItem('custody.theme');
    if (theme === 'light' || theme === 'dark') root.dataset.theme = theme;
    if (localStorage.getItem('custody.density') === 'roomy') root.dataset.density = 'roomy';
  } catch (_) {
    // A browser that keeps nothing gets the system's colours.
  }
})();
