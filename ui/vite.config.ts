import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  plugins: [svelte()],
  build: {
    target: 'es2023',
    // The policy allows no inline code and no data: script; every asset is a file of its own.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // On a slow network requests cost more than bytes: one style, and few parts of script.
    cssCodeSplit: false,
    reportCompressedSize: false,
    rolldownOptions: {
      checks: { pluginTimings: false },
      output: {
        codeSplitting: {
          groups: [
            { name: 'shared', test: /\/src\/(parts|bridge|fold)\/|\/src\/words\.ts|\/node_modules\/svelte\// },
            { name: 'list', test: /\/node_modules\/virtua\// },
            { name: 'markdown', test: /\/node_modules\/marked\/|\/src\/markdown\// },
          ],
        },
      },
    },
  },
  server: { proxy: { '/api': { target: process.env['CUSTODY_URL'] ?? 'http://127.0.0.1:7070', ws: true } } },
  resolve: process.env['VITEST'] ? { conditions: ['browser'] } : {},
  test: { include: ['test/**/*.test.ts'], environment: 'node' },
});
