output "name" {
  description = "The bucket's name."
  value       = aws_s3_bucket.this.id

  # Whoever writes there needs the policy.
  depends_on = [aws_s3_bucket_policy.this]
}

output "arn" {
  description = "The bucket's ARN."
  value       = aws_s3_bucket.this.arn
}
