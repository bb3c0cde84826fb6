# The crash lab in headless Chromium; screenshots under build/.
test-browser: $(crashlab) ; @python3 test/browser/browser_test.py $(crashlab) $O/browser
more_suites += test-browser
.PHONY: test-browser
