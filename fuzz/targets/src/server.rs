//! Dice for a game of clients with a server: see `vellum_network::play`.

/// Plays the game.
pub fn server(input: &[u8]) {
    vellum_network::play(input);
}
