output "topic_arn" {
  description = "The topic."
  value       = aws_sns_topic.this.arn

  # Whoever publishes needs the policy.
  depends_on = [aws_sns_topic_policy.this]
}
